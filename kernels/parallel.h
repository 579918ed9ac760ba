// Threads. parallel.cc is the only file of the project that knows how they are made: a small team
// of its own, or OpenMP's (-DSDQ_OPENMP=ON).
#ifndef SDQ_KERNELS_PARALLEL_H_
#define SDQ_KERNELS_PARALLEL_H_

#include <cstddef>
#include <memory>
#include <type_traits>

namespace sdq::kernels {

// What to call with Arguments..., for as long as it lives elsewhere; unlike std::function it owns
// nothing and needs no memory of its own.
template <class... Arguments>
class FunctionRef {
 public:
  template <class Function>
  requires(!std::is_same_v<std::remove_cvref_t<Function>, FunctionRef>)
      FunctionRef(Function&& fn)  // NOLINT: converts
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(fn)))),
        call_([](void* object, Arguments... arguments) {
          (*static_cast<std::remove_reference_t<Function>*>(object))(arguments...);
        }) {}
  void operator()(Arguments... arguments) const { call_(object_, arguments...); }

 private:
  void* object_;
  void (*call_)(void*, Arguments...);
};

inline constexpr size_t kMaxThreads = 256;

// Worker threads for the following parallel regions; 0 = one per physical core allowed to this
// process. Clamped to [1, kMaxThreads].
void SetThreads(size_t threads);
size_t Threads();
size_t DefaultThreads();

// Calls fn(begin, end, thread) on disjoint ranges that cover [0, count), in parallel; a thread may
// get several of them, one after the other. Range borders are multiples of `grain`. Results must
// not depend on how the range is cut or who runs what (every caller writes disjoint outputs): that
// is what makes logits independent of the thread count. `thread` < Threads() tells apart what runs
// at the same time (scratch memory). Nested calls run serially on the calling thread.
void ParallelFor(size_t count, size_t grain,
                 FunctionRef<size_t /*begin*/, size_t /*end*/, size_t /*thread*/> fn);

// The same for what is read forward, where it helps to know what a thread reads next: `more` says
// that it most likely goes on at `end`.
void ParallelForward(size_t count, size_t grain,
                     FunctionRef<size_t /*begin*/, size_t /*end*/, bool /*more*/> fn);

// What ParallelForward(count, grain, ...) lets each thread begin with: thread's range [begin, end)
// of [0, count); empty for threads that it does not need.
struct ForwardShare {
  size_t begin = 0, end = 0;
};
ForwardShare ShareOf(size_t count, size_t grain, size_t thread);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_PARALLEL_H_
