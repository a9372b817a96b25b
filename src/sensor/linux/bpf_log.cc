#include "sensor/linux/bpf_log.h"

#include <bpf/libbpf.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>

#include "base/text.h"

namespace daemoneye::sensor {
namespace {

constexpr std::size_t kMaxLog = 4096;
thread_local std::string* current_log = nullptr;

[[gnu::format(printf, 2, 0)]] int keep(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN || current_log == nullptr || current_log->size() >= kMaxLog) return 0;
  std::array<char, 512> line;
  const int size = std::vsnprintf(line.data(), line.size(), format, arguments);
  if (size > 0)
    current_log->append(line.data(), std::min<std::size_t>(static_cast<std::size_t>(size), line.size() - 1));
  return 0;
}

}  // namespace

BpfLog::BpfLog() {
  current_log = &text_;
  ::libbpf_set_print(keep);
}

BpfLog::~BpfLog() { current_log = nullptr; }

std::unexpected<Error> BpfLog::fail(const std::string& what, int error) const {
  if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
    return base::fail(Errc::unavailable, what + ": this kernel does not describe its types (/sys/kernel/btf/vmlinux)");
  }
  auto failed = fail_errno(what, error);
  if (error == EPERM) failed.error().message += "; eBPF needs CAP_BPF and CAP_PERFMON";
  const auto line = base::trim(std::string_view(text_).substr(0, text_.find('\n')));
  if (!line.empty()) failed.error().message += " (" + base::printable(line) + ")";
  return failed;
}

}  // namespace daemoneye::sensor
