#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/rotation.h"
#include "tests/kernels/stream_fixture.h"

namespace sdq::kernels {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Entry (i, j) of K for a block of m 2^k values, from the definition.
double MatrixEntry(size_t size, size_t i, size_t j) {
  size_t run = 1;
  while (size % (2 * run) == 0) run *= 2;
  const size_t m = size / run;
  const double angle = 2 * kPi * double(i / run) * double(j / run) / double(m);
  const double hartley = (std::cos(angle) + std::sin(angle)) / std::sqrt(double(m));
  const bool negative = __builtin_parityll(i % run & j % run) != 0;
  return (negative ? -hartley : hartley) / std::sqrt(double(run));
}

std::vector<double> Rotated(const std::vector<float>& x, size_t block, uint64_t seed) {
  std::vector<double> y(x.size(), 0.0);
  for (size_t at = 0; at < x.size(); at += block) {
    const size_t size = std::min(block, x.size() - at);
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) {
        y[at + i] += MatrixEntry(size, i, j) * double(RotationSign(seed, at + j) * x[at + j]);
      }
    }
  }
  return y;
}

}  // namespace

TEST_CASE("signs follow the published generator") {
  // splitmix64 from seed 0 yields e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f,
  // f88bb8a8724c81ec, ...
  CHECK(RotationSign(0, 0) == -1.0f);
  CHECK(RotationSign(0, 1) == 1.0f);
  CHECK(RotationSign(0, 2) == 1.0f);
  CHECK(RotationSign(0, 3) == -1.0f);
}

TEST_CASE("rotation equals its matrix, is orthogonal and invertible, on every target") {
  const test::KernelState restore;
  struct Case {
    size_t columns, block;
  };
  const auto size = GENERATE(values<Case>({{1, 1},
                                           {2, 2},
                                           {3, 3},
                                           {5, 5},
                                           {7, 7},
                                           {8, 8},
                                           {12, 12},
                                           {31, 31},
                                           {32, 32},
                                           {33, 33},
                                           {96, 96},
                                           {100, 32},
                                           {288, 288},
                                           {288, 128},
                                           {300, 64},
                                           {333, 333},
                                           {704, 704},
                                           // All numbers of stages that the last pass may have.
                                           {16, 16},
                                           {64, 64},
                                           {128, 128},
                                           {256, 256},
                                           {512, 512},
                                           {1024, 1024},
                                           {2048, 2048}}));
  std::mt19937_64 random(size.columns * 1000 + size.block);
  const std::vector<float> x = test::RandomFloats(random, size.columns);
  const Rotation rotation(size.columns, size.block, 77);
  const std::vector<double> expected = Rotated(x, size.block, 77);
  REQUIRE(ForceTarget("SCALAR"));
  std::vector<float> reference = x;
  rotation.Apply(reference.data());
  for (size_t i = 0; i < x.size(); ++i) {
    CHECK(double(reference[i]) == Approx(expected[i]).margin(1e-5));
  }
  for (const std::string& target : AvailableTargets()) {
    INFO(target << " " << size.columns << " / " << size.block);
    REQUIRE(ForceTarget(target));
    std::vector<float> y = x;
    rotation.Apply(y.data());
    CHECK(std::memcmp(y.data(), reference.data(), y.size() * sizeof(float)) == 0);
    std::vector<float> elsewhere(x.size());
    rotation.Apply(x.data(), elsewhere.data());
    CHECK(elsewhere == y);
    rotation.Inverse(y.data());
    double error = 0.0;
    for (size_t i = 0; i < x.size(); ++i) error = std::max(error, double(std::abs(y[i] - x[i])));
    CHECK(error < 1e-5);
  }
}

TEST_CASE("rows are rotated one by one, whatever the thread count") {
  const test::KernelState restore;
  std::mt19937_64 random(5);
  const size_t columns = 96, stride = 100, rows = 7;
  const std::vector<float> x = test::RandomFloats(random, rows * stride);
  const Rotation rotation(columns, 64, 3);
  std::vector<float> single = x;
  for (size_t r = 0; r < rows; ++r) rotation.Apply(single.data() + r * stride);
  for (const size_t threads : {1u, 2u, 5u}) {
    SetThreads(threads);
    std::vector<float> together = x;
    rotation.ApplyRows(together.data(), rows, stride);
    CHECK(together == single);
    rotation.InverseRows(together.data(), rows, stride);
    for (size_t i = 0; i < x.size(); ++i) CHECK(together[i] == Approx(x[i]).margin(1e-5));
  }
}

TEST_CASE("no rotation leaves values alone") {
  std::vector<float> x = {1.0f, -2.0f, 3.0f};
  const Rotation rotation(3, 0, 9);
  rotation.Apply(x.data());
  rotation.Inverse(x.data());
  CHECK(x == std::vector<float>{1.0f, -2.0f, 3.0f});
}

}  // namespace sdq::kernels
