// The kernel, the clock, the libraries.
#include <hs/hs.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "cli/doctor.h"
#include "ledger/reader.h"

namespace daemoneye::cli {
namespace {

using nlohmann::json;

constexpr std::size_t max_proc_file_bytes = 1024 * 1024;
constexpr std::chrono::seconds probe_patience{10};
// Ledger entries looked at for clock steps, from the last one back.
constexpr std::uint64_t entries_looked_at = 2000;
constexpr const char* as_root = "run it as root";

std::string read_proc(const std::string& path) {
  return std::string(base::trim(base::read_file(path, max_proc_file_bytes).value_or("")));
}

struct KernelVersion {
  unsigned major = 0, minor = 0;
  auto operator<=>(const KernelVersion&) const = default;
};

// "6.1.0-13-amd64".
KernelVersion version_of(std::string_view release) {
  const auto numbers = base::split(release, '.');
  if (numbers.size() < 2) return {};
  const auto minor = numbers[1].substr(0, numbers[1].find_first_not_of("0123456789"));
  return {base::parse_integer<unsigned>(numbers[0]).value_or(0), base::parse_integer<unsigned>(minor).value_or(0)};
}

void look_at_kernel(Findings& findings) {
  utsname name{};
  ::uname(&name);
  const auto version = version_of(name.release);
  const std::string found = std::string("Linux ") + name.release + ", " + name.machine;
  if (version < KernelVersion{5, 8}) {
    findings.add("kernel", Verdict::warn, found, "no BPF ring buffer and no iterators: short processes can be missed",
                 "a kernel from 5.8 on; Debian 12 has 6.1");
  } else if (version < KernelVersion{5, 13}) {
    findings.add("kernel", Verdict::warn, found, "no Landlock: procmond's access to files is not confined",
                 "a kernel from 5.13 on; Debian 12 has 6.1");
  } else {
    findings.ok("kernel", found);
  }
}

void look_at_btf(Findings& findings) {
  constexpr const char* path = "/sys/kernel/btf/vmlinux";
  if (::access(path, R_OK) == 0) return findings.ok("btf", std::string(path) + " is readable");
  findings.add("btf", Verdict::warn, std::string(path) + (errno == ENOENT ? " is missing" : " cannot be read"),
               "eBPF programs cannot be fitted to this kernel: processes are seen by the proc connector or by scans",
               "a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian's are); in a container /sys must be mounted");
}

void tell_source(Findings& findings, const json& probe, const char* check, const char* name, Verdict otherwise,
                 const char* meaning, const char* fix, bool root) {
  const auto sources = probe.find("sources");
  for (const auto& source : sources != probe.end() && sources->is_array() ? *sources : json::array()) {
    if (!source.is_object() || source.value("name", json()) != name) continue;
    const auto told = source.value("problem", json());
    const auto problem = told.is_string() ? told.get<std::string>() : "no reason was told";
    if (source.value("works", json()) == true) return findings.ok(check, "works: procmond has tried it");
    if (!root) return findings.unknown(check, problem, as_root);
    return findings.add(check, otherwise, problem, meaning, fix);
  }
  findings.unknown(check, "procmond said nothing of it", "run procmond --role probe and look");
}

// The running collector has tried already; otherwise procmond tries and ends.
void look_at_sources(const Patient& patient, Findings& findings) {
  constexpr const char* no_bpf = "processes are seen by the proc connector, or by scans alone";
  constexpr const char* bpf_fix =
      "root with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN in the bounding set; no kernel lockdown=confidentiality";
  const auto* collector = patient.component("collector");
  if (collector != nullptr && collector->details.contains("realtime")) {
    const auto& source = collector->details.at("realtime");
    const auto found = "the running collector uses " + source;
    const auto limits = collector->details.find("realtime_limits");
    if (source == "ebpf") return findings.ok("bpf", found);
    return findings.add("bpf", Verdict::warn, found + (limits == collector->details.end() ? "" : ": " + limits->second),
                        no_bpf, source == "off" ? "collection.realtime: auto, unless this is meant" : bpf_fix);
  }
  const auto& try_sources = patient.invocation.io().probe_sources;
  const auto answer = try_sources ? try_sources(Deadline::after(std::min<std::chrono::nanoseconds>(
                                        probe_patience, patient.invocation.deadline().remaining())))
                                  : fail(Errc::unavailable, "nothing can be tried from here");
  const auto probe = answer ? json::parse(*answer, nullptr, false) : json(json::value_t::discarded);
  if (!probe.is_object()) {
    const auto why = answer ? "procmond's answer is not understood" : answer.error().message;
    findings.unknown("bpf", why, "install the programs together: procmond lies beside them or in ../lib/daemoneye");
    return;
  }
  tell_source(findings, probe, "bpf", "ebpf", Verdict::warn, no_bpf, bpf_fix, patient.root);
  tell_source(findings, probe, "proc_connector", "netlink", Verdict::warn,
              "without eBPF, scans alone would see processes: short ones are missed",
              "a kernel with CONFIG_PROC_EVENTS=y, CAP_NET_ADMIN, and the first network namespace", patient.root);
  tell_source(findings, probe, "bpf_iterator", "bpf_iter", Verdict::warn,
              "scans read /proc: slower, and executables of other users' older processes are not seen", bpf_fix,
              patient.root);
}

void look_at_audit(Findings& findings) {
  if (::access("/proc/self/loginuid", R_OK) == 0) {
    return findings.ok("audit", "the kernel keeps login users (/proc/PID/loginuid)");
  }
  findings.add("audit", Verdict::warn, "/proc/self/loginuid is missing: this kernel does not audit",
               "the column loginuid stays NULL: who logged in first is not known once the user has changed",
               "a kernel with CONFIG_AUDIT=y (Debian's are), booted without audit=0");
}

void look_at_landlock(Findings& findings) {
  constexpr unsigned ask_version = 1;  // LANDLOCK_CREATE_RULESET_VERSION
  const auto abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, ask_version);
  if (abi > 0) return findings.ok("landlock", "ABI " + std::to_string(abi));
  findings.add("landlock", Verdict::warn, errno == EOPNOTSUPP ? "built in, but switched off" : "this kernel has none",
               "procmond's access to files is bounded by its user alone",
               "add landlock to lsm= on the kernel's command line (CONFIG_SECURITY_LANDLOCK=y)");
}

void look_at_seccomp(Findings& findings) {
  const auto actions = read_proc("/proc/sys/kernel/seccomp/actions_avail");
  if (actions.contains("errno") && actions.contains("trap")) return findings.ok("seccomp", "filters are possible");
  findings.add("seccomp", Verdict::warn, "no filters of system calls",
               "procmond may call whatever the kernel offers its user", "a kernel with CONFIG_SECCOMP_FILTER=y");
}

void look_at_namespaces(Findings& findings) {
  const bool there = ::access("/proc/self/ns/net", F_OK) == 0;
  const auto most = read_proc("/proc/sys/user/max_net_namespaces");
  if (there && most != "0") return findings.ok("network_namespace", "procmond can have an empty one");
  findings.add("network_namespace", Verdict::warn,
               there ? "user.max_net_namespaces is 0" : "this kernel has no network namespaces",
               "procmond keeps the machine's network within reach", "sysctl user.max_net_namespaces=1024");
}

void look_at_hidepid(Findings& findings) {
  const auto mounts = read_proc("/proc/self/mounts");  // the lines look into it
  for (const auto line : base::split(mounts, '\n')) {
    const auto fields = base::split(line, ' ');
    if (fields.size() < 4 || fields[1] != "/proc" || fields[2] != "proc") continue;
    for (const auto option : base::split(fields[3], ',')) {
      if (!option.starts_with("hidepid=") || option == "hidepid=0" || option == "hidepid=off") continue;
      return findings.add("proc", Verdict::warn, "/proc is mounted with " + std::string(option),
                          "procmond, once it is unprivileged, does not see other users' processes in /proc; eBPF still "
                          "tells of new ones",
                          "mount /proc without hidepid, or with gid= of a group of the collector's user");
    }
  }
  findings.ok("proc", "/proc shows all processes");
}

struct Needed {
  int number;
  const char *name, *what_for;
};

void look_at_capabilities(const Patient& patient, Findings& findings) {
  // linux/capability.h of Debian 12 knows all of them, older ones not; their numbers are fixed.
  constexpr std::array needed = {Needed{6, "CAP_SETGID", "its own user"},
                                 Needed{7, "CAP_SETUID", "its own user"},
                                 Needed{8, "CAP_SETPCAP", "giving up the rest"},
                                 Needed{12, "CAP_NET_ADMIN", "the proc connector"},
                                 Needed{2, "CAP_DAC_READ_SEARCH", "hashing"},
                                 Needed{19, "CAP_SYS_PTRACE", "hashing"},
                                 Needed{21, "CAP_SYS_ADMIN", "an empty network namespace"},
                                 Needed{38, "CAP_PERFMON", "eBPF"},
                                 Needed{39, "CAP_BPF", "eBPF"}};
  if (!patient.for_root_start) {
    return findings.add("capabilities", Verdict::warn, "the daemons are started by a user that is not root",
                        "no eBPF, no proc connector, and only this user's processes in full",
                        "start daemoneye-agent as root: it gives up what it does not need");
  }
  std::uint64_t bounding = 0;
  const auto status = read_proc("/proc/self/status");
  for (const auto line : base::split(status, '\n')) {
    if (!line.starts_with("CapBnd:")) continue;
    const auto hex = base::trim(line.substr(7));
    std::from_chars(hex.data(), hex.data() + hex.size(), bounding, 16);
  }
  std::string missing;
  for (const auto& one : needed) {
    if ((bounding >> one.number & 1) != 0) continue;
    missing += (missing.empty() ? "" : ", ") + std::string(one.name) + " (" + one.what_for + ')';
  }
  if (missing.empty()) return findings.ok("capabilities", "none that is needed is out of reach");
  findings.add("capabilities", Verdict::warn, "out of reach here: " + missing, "what they are for does not work",
               "in a container: --cap-add each of them, or run on the host; in a unit: CapabilityBoundingSet=");
}

// Steps of the wall clock that the collector has recorded during the last day.
std::string recent_steps(const std::string& ledger_path) {
  const auto reader = ledger::LedgerReader::open(ledger_path);
  const auto size = reader ? (*reader)->size() : std::unexpected(reader.error());
  if (!size) return "";
  const auto since = base::wall_now().ns - std::chrono::nanoseconds(std::chrono::hours(24)).count();
  std::string last;
  std::size_t steps = 0;
  const auto read =
      (*reader)->read(*size - std::min(*size, entries_looked_at), entries_looked_at, [&](const ledger::Entry& entry) {
        if (!entry.action.ends_with("clock_step") || entry.time.ns < since) return true;
        ++steps;
        last = base::to_iso(entry.time) + " " + entry.payload;
        return true;
      });
  if (!read || steps == 0) return "";
  return std::to_string(steps) + (steps == 1 ? " step" : " steps") + " during the last day, the last one " + last;
}

void look_at_clock(const Patient& patient, Findings& findings) {
  timex state{};
  const int status = ::adjtimex(&state);
  if (status < 0) {
    findings.unknown("clock", "its state cannot be read", as_root);
  } else if (status == TIME_ERROR || (state.status & STA_UNSYNC) != 0) {
    findings.add("clock", Verdict::warn, "not synchronised",
                 "times of events can be wrong, and do not fit those of other machines",
                 "timedatectl set-ntp true, or install chrony");
  } else {
    findings.ok("clock", "synchronised, estimated error " + std::to_string(state.esterror) + " us");
  }
  if (const auto steps = recent_steps(patient.loaded->settings.audit.path); !steps.empty()) {
    findings.add("clock_steps", Verdict::warn, steps, "events of those moments are not in the order of their times",
                 "let the clock be slewed: chrony with makestep only at the start");
  }
  const auto reader = patient.invocation.reader();
  const auto stats = reader ? (*reader)->stats() : fail(Errc::unavailable, "");
  constexpr auto tolerated = std::chrono::nanoseconds(std::chrono::seconds(5)).count();
  if (stats && stats->newest && stats->newest->ns > base::wall_now().ns + tolerated) {
    findings.add("clock_and_store", Verdict::warn, "the newest event is of " + base::to_iso(*stats->newest),
                 "the clock was set back: ranges of time up to now do not hold these events",
                 "set the clock right; what is stored keeps its times");
  }
}

void look_at_libraries(Findings& findings) {
  const std::string sqlite = sqlite3_libversion();
  if (sqlite3_libversion_number() < SQLITE_VERSION_NUMBER) {
    findings.add("sqlite", Verdict::fail, "version " + sqlite + ", built for " SQLITE_VERSION, "the store may not open",
                 "install the libsqlite3-0 that this program was built with, or a newer one");
  } else if (sqlite3_threadsafe() == 0) {
    findings.add("sqlite", Verdict::fail, "version " + sqlite + " without threads", "the agent cannot use it",
                 "install Debian's libsqlite3-0");
  } else {
    findings.ok("sqlite", "version " + sqlite);
  }
  findings.ok("openssl", OpenSSL_version(OPENSSL_VERSION));
  if (hs_valid_platform() == HS_SUCCESS) {
    findings.ok("vectorscan", std::string("version ") + hs_version());
  } else {
    findings.add("vectorscan", Verdict::warn, "this processor lacks what it needs (SSE4.2)",
                 "every rule is shown every event: detection costs more", "a processor, or a virtual one, with SSE4.2");
  }
}

}  // namespace

std::vector<Finding> look_at_host(const Patient& patient) {
  Findings findings("host");
  look_at_kernel(findings);
  look_at_btf(findings);
  look_at_sources(patient, findings);
  look_at_audit(findings);
  look_at_capabilities(patient, findings);
  look_at_landlock(findings);
  look_at_seccomp(findings);
  look_at_namespaces(findings);
  look_at_hidepid(findings);
  look_at_clock(patient, findings);
  look_at_libraries(findings);
  return findings.take();
}

}  // namespace daemoneye::cli
