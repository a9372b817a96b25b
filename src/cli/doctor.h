// What `doctor` finds: capability by capability, what works on this machine.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/invocation.h"
#include "observe/health.h"

namespace daemoneye::cli {

enum class Verdict { ok, unknown, warn, fail };  // unknown: it could not be looked at
std::string_view to_string(Verdict verdict);

struct Finding {
  std::string group, check;  // "host" "btf"
  Verdict verdict = Verdict::ok;
  std::string found;    // one line
  std::string meaning;  // what it means for this program; empty when all is well
  std::string fix;      // what to do; empty when all is well
};

// What all groups work with.
struct Patient {
  Invocation& invocation;
  const config::Loaded* loaded = nullptr;
  bool root = false;           // we are
  bool for_root_start = true;  // the daemons are started by root, and change to users of their own
  // As the agent told; nothing while it does not answer.
  std::optional<std::vector<observe::ComponentHealth>> health = std::nullopt;
  [[nodiscard]] const observe::ComponentHealth* component(std::string_view name) const;
};

class Findings {
 public:
  explicit Findings(std::string group) : group_(std::move(group)) {}
  void ok(std::string check, std::string found) { add(std::move(check), Verdict::ok, std::move(found), "", ""); }
  void unknown(std::string check, std::string found, std::string fix) {
    add(std::move(check), Verdict::unknown, std::move(found), "it could not be looked at", std::move(fix));
  }
  void add(std::string check, Verdict verdict, std::string found, std::string meaning, std::string fix) {
    all_.push_back({group_, std::move(check), verdict, std::move(found), std::move(meaning), std::move(fix)});
  }
  std::vector<Finding> take() { return std::move(all_); }

 private:
  std::string group_;
  std::vector<Finding> all_;
};

// doctor_host.cc: the kernel, the clock, the libraries.
std::vector<Finding> look_at_host(const Patient& patient);
// doctor_files.cc: users, folders, files, room on the disks.
std::vector<Finding> look_at_files(const Patient& patient);
// doctor_setup.cc: the configuration, the rules, the sinks, the running agent. `broken`: problems of the configuration,
// in place of which the built-in defaults are looked at.
std::vector<Finding> look_at_setup(const Patient& patient, const std::vector<std::string>& broken);

}  // namespace daemoneye::cli
