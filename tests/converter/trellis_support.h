// Samples, Hessians and slow reference searches for the tests of the trellis modulator.
#ifndef SDQ_TESTS_CONVERTER_TRELLIS_SUPPORT_H_
#define SDQ_TESTS_CONVERTER_TRELLIS_SUPPORT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "converter/hessian.h"
#include "format/tensor.h"

namespace sdq::test {

std::vector<float> GaussianWeights(size_t count, uint64_t seed);

// Mean of x x^T over samples of a smooth process whose power falls along the columns.
std::vector<double> CorrelatedHessian(size_t n, uint64_t seed);

format::DecimatorSpec Polyphase(uint32_t num, uint32_t den, uint32_t window, uint32_t lead,
                                std::vector<float> taps);

// w_i of format/tensor.h, term by term.
std::vector<double> Decode(const format::DecimatorSpec& decimator, const int8_t* samples,
                           size_t columns);

// sum_j D_j ((w - q)(I + A))_j^2 of one row.
double FeedbackObjective(const converter::Feedback& feedback, const float* weights,
                         const double* values);

// Least squared error over all sample sequences, by trying them all.
double LeastSquaredError(const format::DecimatorSpec& decimator, uint32_t letters,
                         const float* weights, size_t columns);

// The search written plainly, in f64: every survivor keeps its whole past. At every `block` columns
// it decides for the best survivor (block >= columns: never). Returns the path's values.
std::vector<double> PlainSearch(const format::DecimatorSpec& decimator, uint32_t letters,
                                const converter::Feedback& feedback, const float* weights,
                                size_t columns, size_t block);

}  // namespace sdq::test

#endif  // SDQ_TESTS_CONVERTER_TRELLIS_SUPPORT_H_
