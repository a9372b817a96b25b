#include "procmond/confinement.h"

#include <unistd.h>

#include <map>
#include <memory>
#include <utility>

#include "base/time.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "sandbox/plans.h"

namespace daemoneye::procmond {
namespace {

using observe::Level;

constexpr std::chrono::seconds look_interval{1}, log_interval{60};

using sandbox::SystemCalls;

class RefusedCalls {
 public:
  void look() {
    look(SystemCalls::collector, "collector");
    look(SystemCalls::hasher, "hasher");
  }

 private:
  struct Seen {
    std::uint64_t counted = 0, logged = 0;
    base::SteadyClock::time_point next_line;
  };

  void look(SystemCalls list, const std::string& list_name) {
    for (const auto& [name, count] : sandbox::refused_system_calls(list)) {
      auto& seen = seen_[{list, name}];
      if (count <= seen.counted) continue;
      observe::counter("daemoneye_seccomp_denied_total", "System calls that the sandbox refused, by list and name",
                       {{"list", list_name}, {"syscall", name}})
          .add(static_cast<double>(count - seen.counted));
      seen.counted = count;
      const auto now = base::SteadyClock::now();
      if (seen.logged != 0 && now < seen.next_line) continue;
      observe::log(Level::warn, "sandbox", "system call refused",
                   {{"list", list_name}, {"syscall", name}, {"count", count - seen.logged}, {"total", count}});
      seen.logged = count;
      seen.next_line = now + log_interval;
    }
  }

  std::map<std::pair<SystemCalls, std::string>, Seen> seen_;
};

std::string refused_text(SystemCalls list) {
  std::string text;
  for (const auto& [name, count] : sandbox::refused_system_calls(list)) {
    text += (text.empty() ? "" : ", ") + name + " " + std::to_string(count);
  }
  return text;
}

}  // namespace

Result<sandbox::Reached> confine(const config::Settings& settings, Confinement confinement) {
  const bool root = ::geteuid() == 0;
  // Started as root the user changes, and what /proc says of others is closed to it anyway.
  const bool keep_proc_links = !root && confinement.reads_proc_links;
  auto plan = sandbox::collector_plan({.user = root ? settings.app.collector_user : "",
                                       .ledger_folder = confinement.audit_folder,
                                       .key_folder = confinement.key_folder,
                                       .read_folders = confinement.configuration_folders,
                                       .keep_proc_links = keep_proc_links});
  plan.once_unprivileged = std::move(confinement.once_unprivileged);
  DE_TRY(auto reached, sandbox::drop_privileges(plan));
  if (keep_proc_links) {
    reached.missing.emplace_back(
        "Landlock: not used, because it would hide the executables of this user's own processes from what is read in "
        "/proc");
  }
  observe::log(Level::info, "procmond", "privileges given up",
               {{"uid", std::uint64_t{reached.uid}},
                {"capabilities", reached.capabilities_effective},
                {"own_network", reached.own_network},
                {"no_new_privs", reached.no_new_privs},
                {"landlock", reached.landlock},
                {"seccomp", reached.seccomp},
                {"system_calls", reached.system_calls}});
  return reached;
}

observe::ComponentHealth capability_health(const sandbox::Reached& reached) {
  observe::ComponentHealth health{
      .component = "capabilities", .state = observe::HealthState::ok, .reason = {}, .details = reached.details()};
  const auto degrade = [&](const std::string& reason) {
    health.state = observe::HealthState::degraded;
    health.reason += (health.reason.empty() ? "" : "; ") + reason;
  };
  for (const auto& missing : reached.missing) degrade(missing);
  const auto refused = refused_text(SystemCalls::collector), to_helper = refused_text(SystemCalls::hasher);
  health.details["system_calls_refused"] = refused.empty() ? "none" : refused;
  if (!refused.empty()) degrade("system calls were refused by the sandbox: " + refused);
  if (!to_helper.empty()) {
    health.details["hasher_system_calls_refused"] = to_helper;
    degrade("system calls of the hashing helper were refused by the sandbox: " + to_helper);
  }
  return health;
}

Result<std::function<void()>> watch_refused_calls(EventLoop& loop) {
  const std::function<void()> look = [calls = std::make_shared<RefusedCalls>()] { calls->look(); };
  DE_TRY(const auto timer, loop.add_timer(look_interval, look_interval, look));
  static_cast<void>(timer);  // for the life of the loop
  return look;
}

}  // namespace daemoneye::procmond
