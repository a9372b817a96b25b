// ScanSummary: the same building blocks as a batch, but nothing is ever digested here.
#include <cmath>
#include <limits>

#include "base/bytes.h"
#include "event/batch.h"
#include "event/event_codec.h"

namespace daemoneye::event {
namespace {

enum : std::uint8_t { has_cpu = 1, has_memory = 2 };
constexpr std::size_t min_update_bytes = 1 + 1 + 1 + 1 + 1;  // boot flag, pid, ticks, status, presence

bool keep(const std::optional<double>& cpu) { return cpu && std::isfinite(*cpu); }

}  // namespace

std::string encode_scan(const ScanSummary& scan) {
  std::string bytes;
  base::ByteWriter out(bytes);
  out.raw(scan_magic);
  out.varint(scan.scan_id);
  out.u64(static_cast<std::uint64_t>(scan.time.ns));
  out.varint(scan.duration_ms);
  out.bytes(std::string_view(scan.source).substr(0, max_source_bytes));
  out.varint(scan.processes);
  out.varint(scan.errors);
  out.varint(scan.lost_events);
  out.varint(scan.updates.size());
  BootId boot{};
  for (const auto& update : scan.updates) {
    put_key(out, update.key, boot);
    boot = update.key.boot;
    out.u8(static_cast<std::uint8_t>(update.status));
    const bool cpu = keep(update.cpu_usage);
    out.u8(static_cast<std::uint8_t>((cpu ? has_cpu : 0) | (update.memory_usage ? has_memory : 0)));
    if (cpu) out.f64(*update.cpu_usage == 0.0 ? 0.0 : *update.cpu_usage);
    if (update.memory_usage) out.varint(*update.memory_usage);
  }
  return bytes;
}

Result<ScanSummary> decode_scan(std::string_view bytes) {
  const auto bad = [](std::string_view what) { return fail(Errc::corrupt, "scan: " + std::string(what)); };
  if (bytes.size() > max_scan_bytes) return bad("larger than " + std::to_string(max_scan_bytes) + " bytes");
  base::ByteReader in(bytes);
  if (in.raw(scan_magic.size()) != scan_magic) return bad("wrong magic or version");
  ScanSummary scan;
  scan.scan_id = in.varint();
  scan.time.ns = static_cast<std::int64_t>(in.u64());
  scan.duration_ms = in.varint();
  const auto source = in.bytes();
  if (source.size() > max_source_bytes) return bad("source too long");
  scan.source = source;
  scan.processes = in.varint();
  scan.errors = in.varint();
  scan.lost_events = in.varint();
  const std::uint64_t count = in.varint();
  if (!in.ok()) return bad("header short or malformed");
  if (count > in.remaining() / min_update_bytes) return bad("more updates than bytes");
  scan.updates.reserve(static_cast<std::size_t>(count));
  BootId boot{};
  for (std::uint64_t i = 0; i < count; ++i) {
    auto& update = scan.updates.emplace_back();
    const auto bad_update = [&] { return bad("update " + std::to_string(i) + " short or malformed"); };
    if (!get_key(in, update.key, boot)) return bad_update();
    boot = update.key.boot;
    const std::uint8_t status = in.u8(), presence = in.u8();
    if (status < 1 || status > static_cast<std::uint8_t>(ProcessStatus::exited)) return bad_update();
    update.status = static_cast<ProcessStatus>(status);
    if (presence > (has_cpu | has_memory)) return bad_update();
    if ((presence & has_cpu) != 0) {
      const double cpu = in.f64();
      if (!std::isfinite(cpu) || (cpu == 0.0 && std::signbit(cpu))) return bad_update();
      update.cpu_usage = cpu;
    }
    if ((presence & has_memory) != 0) update.memory_usage = in.varint();
    if (!in.ok()) return bad_update();
  }
  if (!in.at_end()) return bad("bytes after the last update");
  return scan;
}

}  // namespace daemoneye::event
