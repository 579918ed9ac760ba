// sdq-learn-taps: finds the decimators of decimator_taps.cc.
//
// For a rate P/Q, an alphabet and a window L it looks for the taps with which the trellis search
// codes independent Gaussian samples best: alternate the search (samples for given taps) and least
// squares (taps for given samples). Each alternation can only improve, down to a local minimum, and
// minima differ by 10%: hence many random starts, then hops from the best minimum found so far. All
// starts see the same samples; the error printed was measured on others.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "converter/trellis.h"
#include "format/tensor.h"
#include "kernels/parallel.h"

namespace {

using sdq::Status;
using sdq::converter::Trellis;
using sdq::format::DecimatorSpec;

struct Options {
  uint32_t letters = 2;
  uint32_t num = 2;
  uint32_t den = 1;
  uint32_t window = 8;
  uint32_t derived = 0;
  size_t starts = 40;
  size_t hops = 60;
  size_t iterations = 12;
  size_t rows = 64;
  size_t columns = 480;
  size_t threads = 0;
  uint64_t seed = 1;
  std::vector<float> initial;  // [den][up to window, or derived taps, too], a start of its own
};

// Gaussian numbers that are the same with every standard library.
class Gaussian {
 public:
  explicit Gaussian(uint64_t seed) : engine_(seed) {}
  double operator()() {
    const double u = double((engine_() >> 11) + 1) * 0x1p-53;
    const double v = double(engine_() >> 11) * 0x1p-53;
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
  }
  std::vector<float> Vector(size_t n) {
    std::vector<float> x(n);
    for (float& v : x) v = float((*this)());
    return x;
  }

 private:
  std::mt19937_64 engine_;
};

// Solves A x = b for symmetric positive definite A[n][n]; A and b are overwritten.
void SolveInPlace(std::vector<double>& a, std::vector<double>& b) {
  const size_t n = b.size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t r = i + 1; r < n; ++r) {
      const double f = a[r * n + i] / a[i * n + i];
      for (size_t c = i; c < n; ++c) a[r * n + c] -= f * a[i * n + c];
      b[r] -= f * b[i];
    }
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t c = i + 1; c < n; ++c) b[i] -= a[i * n + c] * b[c];
    b[i] /= a[i * n + i];
  }
}

class Learner {
 public:
  explicit Learner(const Options& options) : options_(options), gaussian_(options.seed) {
    columns_ = std::max<size_t>(1, options.columns / options.den) * options.den;
    weights_ = gaussian_.Vector(options.rows * columns_);
    spec_.kind = sdq::format::DecimatorKind::kPolyphase;
    spec_.osr_num = options.num;
    spec_.osr_den = options.den;
    spec_.window = options.window;
    spec_.derived = options.derived;
    phase_taps_ = sdq::format::PhaseTaps(spec_);
    const uint32_t own = options.num / options.den;
    spec_.lead = options.window - std::min(own, options.window);
  }

  // Taps and their error on the training samples.
  struct Found {
    std::vector<float> taps;
    double error = 1e30;
  };

  Status Search(Found* best) {
    if (!options_.initial.empty()) {
      SDQ_RETURN_IF_ERROR(Descend(InitialTaps(), options_.iterations, best));
    }
    for (size_t start = 0; start < options_.starts; ++start) {
      Found found;
      SDQ_RETURN_IF_ERROR(Descend(RandomTaps(), options_.iterations, &found));
      if (found.error < best->error) *best = std::move(found);
    }
    for (size_t hop = 0; hop < options_.hops; ++hop) {
      std::vector<float> taps = best->taps;
      const double reach = 0.02 * double(1 + hop % 8);
      for (float& tap : taps) tap += float(reach * gaussian_());
      Found found;
      SDQ_RETURN_IF_ERROR(Descend(std::move(taps), options_.iterations, &found));
      if (found.error < best->error) *best = std::move(found);
    }
    return Descend(best->taps, 2 * options_.iterations, best);
  }

  // Mean squared error on fresh samples.
  Status Measure(const std::vector<float>& taps, double* error) {
    std::vector<float> fresh = Gaussian(options_.seed + 0x5eed).Vector(8 * weights_.size());
    weights_.swap(fresh);
    spec_.taps = taps;
    const Status status = Encode(8 * options_.rows, error);
    weights_.swap(fresh);
    return status;
  }

 private:
  // The newest samples count like the digits of a binary fraction, the older ones decay.
  std::vector<float> RandomTaps() {
    std::vector<float> taps(options_.den * phase_taps_);
    for (uint32_t p = 0; p < options_.den; ++p) {
      float* phase = &taps[p * phase_taps_];
      const uint32_t own =
          std::max(1u, (p + 1) * options_.num / options_.den - p * options_.num / options_.den);
      double power = 0;
      for (uint32_t k = 0; k < options_.window; ++k) {
        const double tap =
            k < own ? std::pow(1.0 / options_.letters, k) : 0.6 * gaussian_() * std::pow(0.85, k);
        phase[k] = float(tap);
        power += tap * tap;
      }
      for (uint32_t k = 0; k < options_.window; ++k) phase[k] *= float(0.9 / std::sqrt(power));
      for (size_t k = options_.window; k < phase_taps_; ++k) phase[k] = float(0.15 * gaussian_());
    }
    return taps;
  }

  // The given taps, older samples (and derived ones) than theirs unused.
  std::vector<float> InitialTaps() const {
    const size_t given = options_.initial.size() / options_.den;
    const size_t reach = sdq::format::DerivedReach(spec_);
    const size_t stored = options_.derived == 0 ? given : (given + reach) / 2;
    std::vector<float> taps(options_.den * phase_taps_, 0.0f);
    for (size_t p = 0; p < options_.den; ++p) {
      const auto from = options_.initial.begin() + std::ptrdiff_t(p * given);
      const auto to = taps.begin() + std::ptrdiff_t(p * phase_taps_);
      std::copy_n(from, stored, to);
      std::copy_n(from + std::ptrdiff_t(stored), given - stored,
                  to + std::ptrdiff_t(options_.window));
    }
    return taps;
  }

  Status Encode(size_t rows, double* error) {
    SDQ_ASSIGN_OR_RETURN(const Trellis trellis, Trellis::Create(spec_, options_.letters));
    row_samples_ = trellis.RowSamples(columns_);
    samples_.resize(rows * row_samples_);
    values_.resize(rows * columns_);
    EncodeRows(trellis, weights_.data(), rows, columns_, nullptr, 0, samples_.data(),
               values_.data());
    double sum = 0;
    for (size_t i = 0; i < values_.size(); ++i) {
      const double difference = double(weights_[i]) - double(values_[i]);
      sum += difference * difference;
    }
    *error = sum / double(values_.size());
    return Status::Ok();
  }

  // What a phase's taps multiply: the samples back from `newest`, then the derived ones.
  void Regressors(const int8_t* newest, std::vector<int>* out) const {
    for (size_t k = 0; k < options_.window; ++k) (*out)[k] = *(newest - k);
    for (size_t k = 0; options_.window + k < phase_taps_; ++k) {
      int product = 1;
      for (size_t b = 0; options_.derived >> b != 0; ++b) {
        if ((options_.derived >> b & 1) != 0) product *= *(newest - k - b);
      }
      (*out)[options_.window + k] = product;
    }
  }

  void FitTaps() {
    const size_t count = phase_taps_;
    std::vector<float> taps;
    std::vector<int> q(count);
    for (size_t p = 0; p < options_.den; ++p) {
      std::vector<double> a(count * count, 0.0), b(count, 0.0);
      for (size_t k = 0; k < count; ++k) a[k * count + k] = 1e-3;
      for (size_t r = 0; r < options_.rows; ++r) {
        for (size_t i = p; i < columns_; i += options_.den) {
          const size_t end = spec_.lead + (i + 1) * options_.num / options_.den;
          Regressors(&samples_[r * row_samples_ + end - 1], &q);
          for (size_t k = 0; k < count; ++k) {
            b[k] += double(q[k]) * double(weights_[r * columns_ + i]);
            for (size_t m = 0; m < count; ++m) a[k * count + m] += double(q[k] * q[m]);
          }
        }
      }
      SolveInPlace(a, b);
      for (const double tap : b) taps.push_back(float(tap));
    }
    spec_.taps = std::move(taps);
  }

  Status Descend(std::vector<float> taps, size_t iterations, Found* best) {
    spec_.taps = std::move(taps);
    for (size_t i = 0; i < iterations; ++i) {
      double error = 0;
      SDQ_RETURN_IF_ERROR(Encode(options_.rows, &error));
      if (error < best->error) *best = {spec_.taps, error};
      FitTaps();
    }
    return Status::Ok();
  }

  Options options_;
  Gaussian gaussian_;
  size_t columns_ = 0;
  size_t phase_taps_ = 0;
  DecimatorSpec spec_;
  std::vector<float> weights_;
  std::vector<int8_t> samples_;
  std::vector<float> values_;
  size_t row_samples_ = 0;
};

// As a row of the table in decimator_taps.cc.
void PrintEntry(const Options& options, const std::vector<float>& taps, double error) {
  fmt::print("  {{{}, {}, {}, {}, {:.5f}, {{", options.letters, options.num, options.den,
             options.window, error);
  const size_t phase_taps = taps.size() / options.den;
  for (size_t i = 0; i < taps.size(); ++i) {
    const char* separator = i == 0 ? "" : i % phase_taps == 0 ? ",\n    " : ", ";
    fmt::print("{}{:.4f}f", separator, taps[i]);
  }
  if (options.derived != 0) {
    fmt::print("}}, {:#x}}},\n", options.derived);
  } else {
    fmt::print("}}}},\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Learns the taps of a polyphase decimator for trellis modulation.");
  app.add_option("--letters", options.letters, "2 binary, 3 ternary")->check(CLI::Range(2, 3));
  app.add_option("--num", options.num, "P of OSR = P/Q")->check(CLI::Range(1, 256));
  app.add_option("--den", options.den, "Q of OSR = P/Q")->check(CLI::Range(1, 64));
  app.add_option("--window", options.window, "L, samples per weight")->check(CLI::Range(1, 16));
  app.add_option("--derived", options.derived,
                 "samples whose product is one of a derived stream: bit b is the one b back");
  app.add_option("--starts", options.starts, "random starts")->check(CLI::Range(0, 100000));
  app.add_option("--hops", options.hops, "hops from the best minimum");
  app.add_option("--iterations", options.iterations, "alternations per start and hop")
      ->check(CLI::Range(1, 1000));
  app.add_option("--rows", options.rows, "rows of training samples")->check(CLI::Range(1, 65536));
  app.add_option("--columns", options.columns, "samples per row")->check(CLI::Range(1, 65536));
  app.add_option("--threads", options.threads, "0 = one per core");
  app.add_option("--seed", options.seed, "seed of samples and starts");
  app.add_option("--initial", options.initial,
                 "taps to start from, all phases, newest sample first; a shorter window's will do")
      ->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  const uint32_t divisor = std::gcd(options.num, options.den);
  options.num /= divisor;
  options.den /= divisor;
  DecimatorSpec shape;
  shape.window = options.window;
  shape.derived = options.derived;
  if (options.initial.size() % options.den != 0 ||
      options.initial.size() / options.den > sdq::format::PhaseTaps(shape) ||
      (options.initial.empty() && options.starts == 0)) {
    fmt::print(stderr, "sdq-learn-taps: --initial needs up to {} taps for each of {} phases\n",
               sdq::format::PhaseTaps(shape), options.den);
    return 2;
  }
  sdq::kernels::SetThreads(options.threads);
  Learner learner(options);
  Learner::Found found;
  double error = 0;
  Status status = learner.Search(&found);
  if (status.ok()) status = learner.Measure(found.taps, &error);
  if (!status.ok()) {
    fmt::print(stderr, "sdq-learn-taps: {}\n", status.message());
    return 1;
  }
  PrintEntry(options, found.taps, error);
  return 0;
}
