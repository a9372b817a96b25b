#include "base/hash.h"

#include <openssl/evp.h>
#include <sys/random.h>
#include <zlib.h>

#include <cerrno>
#include <cstdlib>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace daemoneye::base {

namespace {

std::uint32_t crc32_anywhere(std::string_view bytes, std::uint32_t seed) {
  return static_cast<std::uint32_t>(::crc32_z(seed, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

#if defined(__x86_64__)

constexpr std::size_t fold_bytes = 64;   // a step
constexpr std::size_t block_bytes = 16;  // whole ones are folded

__attribute__((target("pclmul,sse4.1"))) inline __m128i fold(__m128i value, __m128i by, __m128i next) {
  return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00), _mm_clmulepi64_si128(value, by, 0x11)),
                       next);
}

// CRC-32 by carry-less multiplication: Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction", Intel 2009; the constants are those of its bit-reflected case. At least fold_bytes, in whole blocks.
__attribute__((target("pclmul,sse4.1"))) std::uint32_t crc32_folded(std::string_view bytes, std::uint32_t seed) {
  const auto* at = reinterpret_cast<const __m128i*>(bytes.data());
  std::size_t left = bytes.size();
  const __m128i by_four = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
  const __m128i by_one = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
  __m128i a = _mm_xor_si128(_mm_loadu_si128(at), _mm_cvtsi32_si128(static_cast<int>(~seed)));
  __m128i b = _mm_loadu_si128(at + 1), c = _mm_loadu_si128(at + 2), d = _mm_loadu_si128(at + 3);
  for (at += 4, left -= fold_bytes; left >= fold_bytes; at += 4, left -= fold_bytes) {
    a = fold(a, by_four, _mm_loadu_si128(at));
    b = fold(b, by_four, _mm_loadu_si128(at + 1));
    c = fold(c, by_four, _mm_loadu_si128(at + 2));
    d = fold(d, by_four, _mm_loadu_si128(at + 3));
  }
  a = fold(fold(fold(a, by_one, b), by_one, c), by_one, d);
  for (; left >= block_bytes; ++at, left -= block_bytes) a = fold(a, by_one, _mm_loadu_si128(at));

  // 128 bits to 64, and Barrett's reduction to 32.
  const __m128i low_32 = _mm_setr_epi32(-1, 0, -1, 0);
  a = _mm_xor_si128(_mm_srli_si128(a, 8), _mm_clmulepi64_si128(a, by_one, 0x10));
  a = _mm_xor_si128(_mm_srli_si128(a, 4),
                    _mm_clmulepi64_si128(_mm_and_si128(a, low_32), _mm_set_epi64x(0, 0x0163cd6124), 0x00));
  const __m128i polynomial = _mm_set_epi64x(0x01f7011641, 0x01db710641);
  __m128i reduced = _mm_clmulepi64_si128(_mm_and_si128(a, low_32), polynomial, 0x10);
  reduced = _mm_clmulepi64_si128(_mm_and_si128(reduced, low_32), polynomial, 0x00);
  return ~static_cast<std::uint32_t>(_mm_extract_epi32(_mm_xor_si128(a, reduced), 1));
}

#endif

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
  void begin() {
    // SHA-256 is always there in OpenSSL; without it, or without memory for it, no proof of ours would hold.
    if (context == nullptr || EVP_DigestInit_ex(context, EVP_sha256(), nullptr) != 1) std::abort();
  }
};

Sha256::Sha256() : state_(std::make_unique<State>()) { state_->begin(); }
Sha256::~Sha256() = default;

void Sha256::update(std::string_view bytes) {
  if (EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) != 1) std::abort();
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest{};
  if (EVP_DigestFinal_ex(state_->context, digest.data(), nullptr) != 1) std::abort();
  state_->begin();
  return digest;
}

Sha256Digest sha256(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::uint32_t crc32(std::string_view bytes, std::uint32_t seed) {
#if defined(__x86_64__)
  static const bool folds = __builtin_cpu_supports("pclmul") != 0 && __builtin_cpu_supports("sse4.1") != 0;
  if (folds && bytes.size() >= fold_bytes) {
    const std::size_t whole = bytes.size() - bytes.size() % block_bytes;
    seed = crc32_folded(bytes.substr(0, whole), seed);
    bytes.remove_prefix(whole);
    if (bytes.empty()) return seed;
  }
#endif
  return crc32_anywhere(bytes, seed);
}

std::string to_hex(std::string_view bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    text += digits[value >> 4];
    text += digits[value & 15];
  }
  return text;
}

std::string to_hex(const Sha256Digest& digest) { return to_hex(as_bytes(digest)); }

Result<std::string> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return fail(Errc::invalid_input, "hex text of odd length");
  const auto nibble = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string bytes;
  bytes.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = nibble(text[i]), low = nibble(text[i + 1]);
    if (high < 0 || low < 0) return fail(Errc::invalid_input, "not a hex digit at offset " + std::to_string(i));
    bytes += static_cast<char>(high << 4 | low);
  }
  return bytes;
}

std::string_view as_bytes(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::string random_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  for (std::size_t done = 0; done < count;) {
    const auto got = ::getrandom(bytes.data() + done, count - done, 0);
    if (got < 0 && errno != EINTR) std::abort();  // identities and keys must never be guessable
    if (got > 0) done += static_cast<std::size_t>(got);
  }
  return bytes;
}

}  // namespace daemoneye::base
