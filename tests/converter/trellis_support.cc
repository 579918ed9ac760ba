#include "tests/converter/trellis_support.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

namespace sdq::test {
namespace {

uint64_t Power(uint32_t base, uint64_t exponent) {
  uint64_t power = 1;
  while (exponent-- > 0) power *= base;
  return power;
}

// Digit k of a number in base `letters`, as a sample.
int8_t Letter(uint64_t number, uint64_t k, uint32_t letters) {
  const auto digit = number / Power(letters, k) % letters;
  return int8_t(letters == 2 ? 2 * int(digit) - 1 : int(digit) - 1);
}

uint64_t End(const format::DecimatorSpec& d, size_t i) {
  return d.lead + (i + 1) * d.osr_num / d.osr_den;
}

// w_i, `sample(k)` being the sample k before the newest that it sees.
template <typename Sample>
double ValueOf(const format::DecimatorSpec& d, size_t i, const Sample& sample) {
  const float* taps = &d.taps[i % d.osr_den * format::PhaseTaps(d)];
  const uint64_t seen = std::min<uint64_t>(d.window, End(d, i));
  double value = 0;
  for (uint64_t k = 0; k < seen; ++k) value += double(taps[k]) * sample(k);
  const uint64_t reach = format::DerivedReach(d);
  for (uint64_t k = 0; d.derived != 0 && k + reach < seen; ++k) {
    int product = 1;
    for (uint64_t b = 0; b <= reach; ++b) {
      if ((d.derived >> b & 1) != 0) product *= sample(k + b);
    }
    value += double(taps[d.window + k]) * product;
  }
  return value;
}

struct Survivor {
  double cost = 0;
  std::vector<double> values;
};

}  // namespace

std::vector<float> GaussianWeights(size_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<float> w(count);
  for (float& x : w) {
    const double u = double((engine() >> 11) + 1) * 0x1p-53;
    const double v = double(engine() >> 11) * 0x1p-53;
    x = float(std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
  }
  return w;
}

std::vector<double> CorrelatedHessian(size_t n, uint64_t seed) {
  const size_t count = 2 * n;
  const std::vector<float> noise = GaussianWeights(count * n, seed);
  std::vector<double> h(n * n, 0.0);
  std::vector<double> x(n);
  for (size_t t = 0; t < count; ++t) {
    double state = 0;
    for (size_t i = 0; i < n; ++i) {
      state = 0.9 * state + 0.436 * double(noise[t * n + i]);
      x[i] = state * (1 + 2 * std::exp(-double(i) / 40));
    }
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) h[i * n + j] += x[i] * x[j] / double(count);
    }
  }
  return h;
}

format::DecimatorSpec Polyphase(uint32_t num, uint32_t den, uint32_t window, uint32_t lead,
                                std::vector<float> taps) {
  format::DecimatorSpec d;
  d.kind = format::DecimatorKind::kPolyphase;
  d.osr_num = num;
  d.osr_den = den;
  d.window = window;
  d.lead = lead;
  d.taps = std::move(taps);
  return d;
}

std::vector<double> Decode(const format::DecimatorSpec& d, const int8_t* samples, size_t columns) {
  std::vector<double> values(columns);
  for (size_t i = 0; i < columns; ++i) {
    const int8_t* newest = samples + End(d, i) - 1;
    values[i] = ValueOf(d, i, [&](uint64_t back) { return int(*(newest - back)); });
  }
  return values;
}

double FeedbackObjective(const converter::Feedback& feedback, const float* weights,
                         const double* values) {
  const size_t n = feedback.n;
  double objective = 0;
  for (size_t j = 0; j < n; ++j) {
    double error = 0;
    for (size_t i = 0; i <= j; ++i) {
      error += (double(weights[i]) - values[i]) * double(feedback.a[i * n + j]);
    }
    objective += double(feedback.d[j]) * error * error;
  }
  return objective;
}

double LeastSquaredError(const format::DecimatorSpec& d, uint32_t letters, const float* weights,
                         size_t columns) {
  const uint64_t length = End(d, columns - 1);
  std::vector<int8_t> samples(length);
  double least = 1e300;
  for (uint64_t pattern = 0; pattern < Power(letters, length); ++pattern) {
    for (uint64_t k = 0; k < length; ++k) samples[k] = Letter(pattern, k, letters);
    const std::vector<double> values = Decode(d, samples.data(), columns);
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) {
      sum += (double(weights[i]) - values[i]) * (double(weights[i]) - values[i]);
    }
    least = std::min(least, sum);
  }
  return least;
}

std::vector<double> PlainSearch(const format::DecimatorSpec& d, uint32_t letters,
                                const converter::Feedback& feedback, const float* weights,
                                size_t columns, size_t block) {
  const uint64_t states = Power(letters, d.window);
  std::vector<Survivor> survivors(states);
  uint64_t before = d.lead;
  for (size_t i = 0; i < columns; ++i) {
    if (i > 0 && i % block == 0) {
      const auto best =
          std::min_element(survivors.begin(), survivors.end(),
                           [](const Survivor& x, const Survivor& y) { return x.cost < y.cost; });
      for (auto s = survivors.begin(); s != survivors.end(); ++s) {
        if (s != best) s->cost = 1e300;
      }
    }
    const uint64_t fresh = End(d, i) - before;
    before = End(d, i);
    const uint64_t parents = states / Power(letters, fresh);
    std::vector<Survivor> next(states);
    for (uint64_t p = 0; p < parents; ++p) {
      const Survivor* from = &survivors[p];
      for (uint64_t other = p; other < states; other += parents) {
        if (survivors[other].cost < from->cost) from = &survivors[other];
      }
      double target = double(weights[i]);
      for (size_t k = 0; k < i; ++k) {
        target += (double(weights[k]) - from->values[k]) * double(feedback.a[k * feedback.n + i]);
      }
      for (uint64_t c = p * Power(letters, fresh); c < (p + 1) * Power(letters, fresh); ++c) {
        const double value = ValueOf(d, i, [&](uint64_t k) { return int(Letter(c, k, letters)); });
        next[c] = *from;
        next[c].cost += double(feedback.d[i]) * (target - value) * (target - value);
        next[c].values.push_back(value);
      }
    }
    survivors = std::move(next);
  }
  return std::min_element(survivors.begin(), survivors.end(),
                          [](const Survivor& x, const Survivor& y) { return x.cost < y.cost; })
      ->values;
}

}  // namespace sdq::test
