#include "procmond/hashing.h"

#include "collector/budget.h"
#include "observe/log.h"
#include "sandbox/plans.h"
#include "sandbox/sandbox.h"
#include "sensor/hasher.h"

namespace daemoneye::procmond {
namespace {

using Details = std::map<std::string, std::string>;

sensor::Confinement confinement(const std::string& user) {
  return {.drop = [user]() -> Result<Details> {
            DE_TRY(const auto reached, sandbox::drop_privileges(sandbox::hasher_plan(user)));
            return reached.details();
          },
          .filter = []() -> Result<Details> {
            DE_CHECK(sandbox::restrict_system_calls(sandbox::SystemCalls::hasher));
            return Details{{"seccomp", "yes"}, {"system_calls", "hasher"}};
          }};
}

}  // namespace

Hashing open_hashing(const config::Settings& settings, bool root) {
  Hashing hashing;
  if (!settings.collection.hash_executables) return hashing;
  collector::Hashes::Options options;
  const auto budget = collector::Budget::of(settings.app.memory_budget_mb);
  options.files = options.paths = budget.hashed_files;
  options.waiting = budget.hashes_waiting;
  options.waiting_bytes = budget.hashes_waiting_bytes;
  sensor::HasherOptions hasher;
  hasher.cpu_percent = static_cast<unsigned>(settings.collection.hash_cpu_percent);
  auto opened = sensor::open_hasher(hasher, confinement(root ? settings.app.collector_user : ""));
  std::unique_ptr<sensor::Hasher> serving;
  if (opened) {
    serving = std::move(opened->hasher);
    hashing.details = options.details = std::move(opened->details);
    const auto& capabilities = hashing.details["capabilities_effective"];
    std::string missing;
    for (const std::string name : {"cap_dac_read_search", "cap_sys_ptrace"}) {
      if (!capabilities.contains(name)) missing += (missing.empty() ? "" : ", ") + name;
    }
    if (!missing.empty()) {
      options.problem = "executables of other users' processes are not hashed: the helper lacks " + missing;
    }
  } else {
    hashing.details["error"] = opened.error().message;
    options.problem = "executables are not hashed: " + opened.error().message;
    observe::log(observe::Level::error, "hashing", "no hashing helper", {{"error", opened.error().message}});
  }
  hashing.hashes = std::make_unique<collector::Hashes>(std::move(options), std::move(serving));
  return hashing;
}

}  // namespace daemoneye::procmond
