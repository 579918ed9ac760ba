// sdq-kernel-bench: the speed of single kernels on made-up data, apart from any model.
#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "apps/support/app.h"
#include "apps/support/machine.h"
#include "apps/support/table.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "format/layout.h"
#include "kernels/dense.h"
#include "kernels/dispatch.h"
#include "kernels/parallel.h"
#include "kernels/stream_product.h"
#include "runtime/aligned_buffer.h"

namespace sdq::apps {
namespace {

using kernels::ActivationMap;
using kernels::ElementType;
using kernels::Packing;
using kernels::TableForm;

struct Options {
  std::vector<std::string> kernels;
  std::vector<std::string> targets;
  std::vector<size_t> threads;
  std::vector<size_t> tokens = {1, 8, 64};
  std::vector<double> megabytes = {1, 256};
  size_t columns = 2048;
  double seconds = 0.1;
  std::string format = "md";
};

const std::map<std::string, TableFormat> kFormats = {
    {"md", TableFormat::kMarkdown}, {"csv", TableFormat::kCsv}, {"json", TableFormat::kJson}};

// A bitstream kernel: how its samples are packed, and which of the two arithmetics it uses.
struct StreamKernel {
  const char* name;
  Packing packing;
  bool popcount;
  TableForm form = TableForm::kLookUp;
  bool derived = false;  // as many samples again, made from the stored ones
};
constexpr StreamKernel kStreams[] = {
    {"binary", Packing::kBinary, false},
    {"tiles-binary", Packing::kBinary, false, TableForm::kTiles},
    {"derived", Packing::kBinary, false, TableForm::kLookUp, true},
    {"planes", Packing::kTernaryPlanes, false},
    {"packed", Packing::kTernaryPacked, false},
    {"popcount-binary", Packing::kBinary, true},
    {"popcount-planes", Packing::kTernaryPlanes, true},
    {"popcount-packed", Packing::kTernaryPacked, true},
};
struct DenseKernel {
  const char* name;
  ElementType type;
  size_t element_bytes;
};
constexpr DenseKernel kDense[] = {{"dense-q8", ElementType::kQ8, 1},
                                  {"dense-f16", ElementType::kF16, 2}};
constexpr const char* kHandOff = "hand-off";
constexpr const char* kRead = "read";

std::vector<std::string> KernelNames() {
  std::vector<std::string> names = {kRead};
  for (const StreamKernel& kernel : kStreams) names.push_back(kernel.name);
  for (const DenseKernel& kernel : kDense) names.push_back(kernel.name);
  names.push_back(kHandOff);
  return names;
}

void Declare(CLI::App& app, Options& o) {
  const auto list = [&app](const char* names, auto& values, const std::string& help) {
    return app.add_option(names, values, help)->delimiter(',');
  };
  list("-k,--kernels", o.kernels,
       fmt::format("kernels to measure (default: all): {}", fmt::join(KernelNames(), ", ")))
      ->check(CLI::IsMember(KernelNames()));
  list("--targets", o.targets,
       "instruction sets by name, or 'all' that this machine runs (default: all with vectors)");
  list("-t,--threads", o.threads, "numbers of threads (default: one per core)")
      ->check(IntegerFrom(1, 256));
  list("-b,--tokens", o.tokens, "activations per call (default 1,8,64)")
      ->check(IntegerFrom(1, 4096));
  list("--mb", o.megabytes, "bytes of the matrix in millions (default 1,256: cache and memory)")
      ->check(NumberFrom(0.01, 16384));
  app.add_option("-c,--columns", o.columns, "columns of the matrix (default 2048)")
      ->check(IntegerFrom(1, int64_t{1} << 20));
  app.add_option("--seconds", o.seconds, "least time per measurement (default 0.1)")
      ->check(NumberFrom(0.001, 60));
  app.add_option("-o,--output", o.format, "md (default), csv or json")
      ->check(CLI::IsMember(kFormats));
}

// Cheap pseudo-random bytes and floats: what they are does not matter, but denormals would.
class Noise {
 public:
  uint32_t Next() { return state_ = state_ * 1664525u + 1013904223u; }
  float Symmetric() { return float(Next() >> 8) * 0x1p-23f - 1.0f; }

 private:
  uint32_t state_ = 1;
};

std::vector<float> Floats(size_t count) {
  Noise noise;
  std::vector<float> values(count);
  for (float& v : values) v = noise.Symmetric();
  return values;
}

// Bytes that are legal in every packing. Touched by the threads that read them.
void FillBytes(uint8_t* bytes, size_t count) {
  kernels::ParallelFor(count, 4096, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      bytes[i] = format::PackedByte(uint8_t(i * 2654435761u >> 13) % 243u);
    }
  });
}

// As the converter's second method makes them: full rotation, OSR 2 of binary samples with 8 taps,
// OSR 3/2 with as many derived ones, OSR 5/4 of ternary ones with 5.
kernels::MapSpec SpecOf(const StreamKernel& kernel, size_t columns) {
  kernels::MapSpec spec;
  spec.columns = columns;
  // Any length has a rotation in blocks of the largest power of two that divides it.
  spec.rotation_block = columns & (~columns + 1);
  spec.decimator = kernels::Decimator::kPolyphase;
  spec.packing = kernel.packing;
  const bool binary = kernel.packing == Packing::kBinary;
  spec.osr_num = kernel.derived ? 3 : binary ? 2 : 5;
  spec.osr_den = kernel.derived ? 2 : binary ? 1 : 4;
  spec.window = binary ? 8 : 5;
  if (kernel.derived) spec.derived = 0b100011;  // q[j] q[j - 1] q[j - 5]
  const size_t derived_taps = kernel.derived ? spec.window - kernels::DerivedReach(spec) : 0;
  spec.taps = Floats(spec.osr_den * (spec.window + derived_taps));
  return spec;
}

class KernelBench {
 public:
  explicit KernelBench(const Options& options) : options_(options) {}

  Status Run() {
    for (const size_t threads : options_.threads) {
      kernels::SetThreads(threads);
      threads_ = threads;
      if (Wanted(kRead)) MeasureRead();
      if (Wanted(kHandOff)) MeasureHandOff();
      for (const std::string& target : options_.targets) {
        kernels::ForceTarget(target);
        target_ = target;
        for (const StreamKernel& kernel : kStreams) {
          if (Wanted(kernel.name)) SDQ_RETURN_IF_ERROR(MeasureStream(kernel));
        }
        for (const DenseKernel& kernel : kDense) {
          if (Wanted(kernel.name)) SDQ_RETURN_IF_ERROR(MeasureDense(kernel));
        }
      }
      kernels::ForceTarget("");
    }
    return Status::Ok();
  }

  std::string Report() const {
    const TableFormat format = kFormats.at(options_.format);
    std::string text;
    if (format == TableFormat::kMarkdown) {
      text = fmt::format("sdq-kernel-bench {}, {}, {} columns\n\n", BuildCommit(), CpuModel(),
                         options_.columns);
    }
    return text + table_.Format(format);
  }

 private:
  bool Wanted(const std::string& name) const {
    return options_.kernels.empty() || std::find(options_.kernels.begin(), options_.kernels.end(),
                                                 name) != options_.kernels.end();
  }

  double Seconds(const std::function<void()>& fn) const {
    return SecondsPerCall(fn, options_.seconds);
  }

  // bytes: of the matrix, read once per call and used for every token; additions likewise.
  void Record(const std::string& kernel, size_t tokens, double bytes, double operations,
              double seconds) {
    table_.Add({BuildCommit(), CpuModel(), kernel, target_, int64_t(threads_), int64_t(tokens),
                1e-6 * bytes, 1e6 * seconds, 1e-9 * bytes / seconds,
                1e-9 * bytes * double(tokens) / seconds,
                1e-9 * operations * double(tokens) / seconds});
  }
  // A part that reads no matrix.
  void RecordTime(const std::string& kernel, const std::string& target, Table::Cell tokens,
                  double seconds) {
    table_.Add({BuildCommit(),
                CpuModel(),
                kernel,
                target,
                int64_t(threads_),
                std::move(tokens),
                {},
                1e6 * seconds,
                {},
                {},
                {}});
  }

  void MeasureRead() {
    for (const double mb : options_.megabytes) {
      ReadYardstick yardstick(uint64_t(mb * 1e6));
      const double read = yardstick.BytesPerSecond();
      if (read <= 0) continue;
      table_.Add({BuildCommit(),
                  CpuModel(),
                  std::string(kRead),
                  std::string(),
                  int64_t(threads_),
                  {},
                  1e-6 * double(yardstick.bytes()),
                  1e6 * double(yardstick.bytes()) / read,
                  1e-9 * read,
                  {},
                  {}});
    }
  }

  // An empty parallel region, again and again.
  void MeasureHandOff() {
    const auto region = [this] {
      kernels::ParallelFor(threads_, 1, [](size_t, size_t, size_t) {});
    };
    RecordTime(kHandOff, "", {}, Seconds(region));
  }

  Status MeasureStream(const StreamKernel& kernel) {
    if (kernel.form == TableForm::kTiles && !kernels::HasTiles()) return Status::Ok();
    const ActivationMap map(SpecOf(kernel, options_.columns));
    const size_t tile_bytes = map.layout().tile_bytes();
    for (const double mb : options_.megabytes) {
      const size_t tiles = std::max<size_t>(1, size_t(mb * 1e6) / tile_bytes);
      const size_t rows = tiles * kernels::kTileRows;
      const AlignedBuffer bits(tiles * tile_bytes + 64);
      FillBytes(bits.data(), bits.bytes());
      const std::vector<uint16_t> scales(rows, 0x3c00);  // 1 in f16
      kernels::StreamMatrix matrix;
      matrix.bits = bits.data();
      matrix.rows = rows;
      matrix.scales_f16 = scales.data();
      for (const size_t tokens : options_.tokens) {
        if (Interrupted()) return Status::Cancelled("interrupted");
        MeasureProduct(kernel, map, matrix, tokens, mb == options_.megabytes.front());
      }
    }
    return Status::Ok();
  }

  void MeasureProduct(const StreamKernel& kernel, const ActivationMap& map,
                      const kernels::StreamMatrix& matrix, size_t tokens, bool with_preparation) {
    const std::vector<float> x = Floats(tokens * options_.columns);
    const size_t bytes = kernel.popcount ? map.plane_bytes() : map.table_bytes();
    const AlignedBuffer prepared(tokens * bytes);
    const AlignedBuffer scratch(threads_ * map.scratch_bytes());
    const auto prepare = [&] {
      if (kernel.popcount) {
        map.PreparePlanes(x.data(), tokens, options_.columns, prepared.data(), scratch.data());
      } else {
        map.PrepareTables(x.data(), tokens, options_.columns, kernel.form, prepared.data(),
                          scratch.data());
      }
    };
    prepare();
    if (with_preparation) {
      RecordTime(fmt::format("prepare {}", kernel.name), target_, int64_t(tokens),
                 Seconds(prepare) / double(tokens));
    }
    std::vector<float> y(tokens * matrix.rows);
    const double seconds = Seconds([&] {
      if (kernel.popcount) {
        kernels::StreamProductPopcount(matrix, map, prepared.data(), tokens, y.data(), matrix.rows);
      } else {
        kernels::StreamProduct(matrix, map, kernel.form, prepared.data(), tokens, y.data(),
                               matrix.rows);
      }
    });
    const double tiles = double(matrix.rows) / double(kernels::kTileRows);
    Record(kernel.name, tokens, tiles * double(map.layout().tile_bytes()),
           double(matrix.rows) * double(map.layout().row_samples), seconds);
  }

  Status MeasureDense(const DenseKernel& kernel) {
    for (const double mb : options_.megabytes) {
      const size_t row_bytes = options_.columns * kernel.element_bytes;
      const size_t rows = std::max<size_t>(1, size_t(mb * 1e6) / row_bytes);
      const AlignedBuffer data(rows * row_bytes);
      // Both bytes of an f16 below 0x7c, where infinities begin.
      kernels::ParallelFor(data.bytes(), 4096, [&](size_t begin, size_t end, size_t) {
        for (size_t i = begin; i < end; ++i) data.data()[i] = uint8_t(i * 2654435761u >> 13) % 60;
      });
      const std::vector<uint16_t> scales(rows, 0x3c00);
      kernels::DenseMatrix matrix;
      matrix.data = data.data();
      matrix.type = kernel.type;
      matrix.rows = rows;
      matrix.columns = options_.columns;
      matrix.scales_f16 = scales.data();
      for (const size_t tokens : options_.tokens) {
        if (Interrupted()) return Status::Cancelled("interrupted");
        const std::vector<float> x = Floats(tokens * options_.columns);
        std::vector<float> y(tokens * rows);
        const double seconds = Seconds([&] {
          kernels::DenseProduct(matrix, x.data(), tokens, options_.columns, y.data(), rows);
        });
        Record(kernel.name, tokens, double(data.bytes()), double(rows) * double(options_.columns),
               seconds);
      }
    }
    return Status::Ok();
  }

  const Options& options_;
  size_t threads_ = 1;
  std::string target_;
  Table table_ = Table({{"commit", ""},
                        {"cpu", ""},
                        {"kernel", "kernel"},
                        {"target", "target"},
                        {"threads", "threads", true},
                        {"tokens", "tokens", true},
                        {"matrix_mb", "MB", true, 1},
                        {"microseconds", "us", true, 2},
                        {"gigabytes_per_second", "GB/s read", true, 1},
                        {"gigabytes_times_tokens_per_second", "GB/s x tokens", true, 1},
                        {"giga_operations_per_second", "Gop/s", true, 1}});
};

int Main(int argc, char** argv) {
  CLI::App app("Measures single kernels: products, preparation of activations, thread hand-off.",
               "sdq-kernel-bench");
  Options options;
  Declare(app, options);
  int exit_code = kExitOk;
  if (!Parse(app, argc, argv, &exit_code)) return exit_code;
  InstallSignalHandlers();
  if (options.threads.empty()) options.threads = {kernels::DefaultThreads()};
  if (options.targets.empty()) {
    options.targets = kernels::AvailableTargets();
    if (options.targets.size() > 1) options.targets.pop_back();  // the plain code is far slower
  }
  if (const Status known = ResolveTargets(&options.targets); !known.ok()) {
    Fail(app, known);
    return kExitUsage;
  }
  KernelBench bench(options);
  if (const Status status = bench.Run(); !status.ok()) return Fail(app, status);
  const Status written = WriteOut(bench.Report());
  return written.ok() ? kExitOk : Fail(app, written);
}

}  // namespace
}  // namespace sdq::apps

int main(int argc, char** argv) {
  return sdq::apps::RunProgram("sdq-kernel-bench", sdq::apps::Main, argc, argv);
}
