// The frame reader over any bytes, in any pieces: it never reads or keeps more than it was given, the pieces do not
// matter, and what it accepts is exactly what append_frame() writes.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "ipc/frame.h"

namespace {

using daemoneye::ipc::append_frame;
using daemoneye::ipc::FrameReader;

constexpr std::size_t max_payload = 4096;

struct Outcome {
  std::vector<std::string> payloads;
  std::string error;
  bool operator==(const Outcome&) const = default;
};

Outcome read(std::string_view bytes, std::size_t step) {
  Outcome outcome;
  FrameReader reader(max_payload);
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    reader.feed(bytes.substr(at, step));
    for (;;) {
      std::string_view payload;
      const auto next = reader.next(payload);
      if (!next) {
        outcome.error = next.error().message;
        if (reader.mid_frame()) std::abort();
        break;
      }
      if (!*next) break;
      outcome.payloads.emplace_back(payload);
    }
    // At most an unfinished frame and the last piece, and what a growing string adds to that.
    if (reader.held_bytes() > 2 * (max_payload + daemoneye::ipc::frame_header_bytes + step) + 64) std::abort();
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = read(bytes, bytes.size() + 1);
  if (read(bytes, static_cast<std::size_t>(data[0]) + 1) != whole) std::abort();

  std::string again;
  for (std::size_t i = 0; i < whole.payloads.size(); ++i) append_frame(again, i + 1, whole.payloads[i]);
  if (bytes.substr(0, again.size()) != again) std::abort();

  // And what is written is read, whatever the bytes.
  const auto payload = bytes.substr(0, max_payload);
  std::string written;
  append_frame(written, 1, payload);
  if (read(written, static_cast<std::size_t>(data[0]) + 1) != Outcome{{std::string(payload)}, ""}) std::abort();
  return 0;
}
