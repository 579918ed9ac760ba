// The tile unit of recent x86 processors (AMX), shared by its users.
#ifndef SDQ_KERNELS_TILE_SESSION_H_
#define SDQ_KERNELS_TILE_SESSION_H_

namespace sdq::kernels {

// Whether the processor multiplies tiles of int8 and bfloat16 and the operating system lets this
// process do so. Asks it once; false on other architectures.
bool TileUnitGranted();

// The calling thread's unit is configured for eight full tiles (16 rows of 64 bytes) while this
// lives. Needs TileUnitGranted().
class TileSession {
 public:
  TileSession();
  ~TileSession();
  TileSession(const TileSession&) = delete;
  TileSession& operator=(const TileSession&) = delete;
};

}  // namespace sdq::kernels

#endif  // SDQ_KERNELS_TILE_SESSION_H_
