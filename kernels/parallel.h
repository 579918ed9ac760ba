// Threads. parallel.cc is the only file of the project that knows OpenMP.
#ifndef SDQ_KERNELS_PARALLEL_H_
#define SDQ_KERNELS_PARALLEL_H_

#include <cstddef>
#include <functional>

namespace sdq::kernels {

// Worker threads for the following parallel regions; 0 = one per physical core allowed to this
// process. Clamped to [1, 256].
void SetThreads(size_t threads);
size_t Threads();
size_t DefaultThreads();

// Calls fn(begin, end, thread) on disjoint ranges that cover [0, count), in parallel. Range borders
// are multiples of `grain`, and depend on count, grain and Threads() only. Results must not depend
// on how the range is cut (every caller writes disjoint outputs): that is what makes logits
// independent of the thread count. Nested calls run serially on the calling thread.
void ParallelFor(size_t count, size_t grain,
                 const std::function<void(size_t begin, size_t end, size_t thread)>& fn);

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_PARALLEL_H_
