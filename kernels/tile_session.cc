#include "kernels/tile_session.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace sdq::kernels {
namespace {

constexpr uint8_t kTileRows = 16;
constexpr uint16_t kTileRowBytes = 64;

// The palette of eight full tiles, as LDTILECFG reads it.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {kTileRowBytes, kTileRowBytes, kTileRowBytes, kTileRowBytes,
                            kTileRowBytes, kTileRowBytes, kTileRowBytes, kTileRowBytes};
  uint8_t rows[16] = {kTileRows, kTileRows, kTileRows, kTileRows,
                      kTileRows, kTileRows, kTileRows, kTileRows};
};
const TileConfig kTiles;

bool RequestTiles() {
  constexpr unsigned kTileBf16 = 1u << 22, kTile = 1u << 24, kTileInt8 = 1u << 25;
  constexpr unsigned kNeeded = kTileBf16 | kTile | kTileInt8, kAvx512Bf16 = 1u << 5;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kNeeded) != kNeeded) return false;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a & kAvx512Bf16) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// The intrinsic does not tell the compiler how much it reads: what it is given must be in memory.
__attribute__((target("amx-tile"))) void LoadConfig(const TileConfig* config) {
  _tile_loadconfig(config);
}
__attribute__((target("amx-tile"))) void ReleaseTiles() { _tile_release(); }

}  // namespace

bool TileUnitGranted() {
  static const bool granted = RequestTiles();
  return granted;
}

TileSession::TileSession() { LoadConfig(&kTiles); }
TileSession::~TileSession() { ReleaseTiles(); }

}  // namespace sdq::kernels

#else  // no such unit

namespace sdq::kernels {

bool TileUnitGranted() { return false; }
TileSession::TileSession() = default;
TileSession::~TileSession() = default;

}  // namespace sdq::kernels

#endif
