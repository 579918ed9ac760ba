#include "converter/encoder.h"

namespace sdq::converter {

format::StreamView EncodedLinear::View(const std::string& name) const {
  format::StreamView view;
  view.name = name;
  view.rows = rows;
  view.columns = columns;
  view.rotation = rotation;
  view.decimator = decimator;
  view.alphabet = alphabet;
  view.granularity = granularity;
  view.scales_f16 = scales_f16;
  view.scale_base = scale_base;
  view.means_f16 = means_f16;
  view.mean_base = mean_base;
  view.bits = std::span(bits).first(format::BitstreamBytes(decimator, alphabet, rows, columns));
  return view;
}

double EncodedLinear::BitsPerWeight() const {
  const uint64_t bytes = format::BitstreamBytes(decimator, alphabet, rows, columns) +
                         2 * (scales_f16.size() + means_f16.size());
  return 8.0 * double(bytes) / (double(rows) * double(columns));
}

}  // namespace sdq::converter
