#include "kernels/parallel.h"

namespace sdq::kernels {}
