// What operators ask of alerting: the state of the sinks, tests of them, changes of alerts and of dead letters, and
// to be told of new alerts. Loop thread only, but for what is said otherwise.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "alert/delivery.h"
#include "base/event_loop.h"
#include "ipc/messages.h"
#include "observe/health.h"
#include "store/alert_changes.h"
#include "store/writer.h"

namespace daemoneye::apps {

class AlertAdmin {
 public:
  using Reply = std::function<void(Result<std::string>)>;  // once; from any thread
  // False: the entry could not be kept, and what it is about is not to be done.
  using Audit = std::function<bool(const std::string& action, const std::string& payload)>;
  AlertAdmin(EventLoop& loop, store::Writer& writer, alert::Deliverer& deliverer, std::string store_path, Audit audit);
  // After the deliverer was stopped: waits for a test that is under way.
  ~AlertAdmin();

  // Requests of the kinds sinks, test_sinks, change_alerts, dead_letters and follow_alerts. Who may ask is the caller's
  // matter.
  void answer(uid_t by, const ipc::Request& request, Reply reply);
  void on_raised();  // any thread: alerts were committed

  [[nodiscard]] observe::ComponentHealth health() const;
  void publish_metrics() const;

  // In one request; beyond that it is refused.
  static constexpr std::size_t max_alerts = 100, max_id_bytes = 128, max_note_bytes = 2000, max_sinks = 64;
  static constexpr std::size_t max_followers = 64;
  static constexpr std::chrono::milliseconds longest_follow{10'000};

 private:
  struct Follower {
    std::uint64_t id = 0;
    std::int64_t row = 0;
    Reply reply;
    EventLoop::TimerId timer = -1;
  };
  void test_sinks(uid_t by, const ipc::Request& request, Reply reply);
  Result<std::string> change_alerts(uid_t by, const std::string& payload, Reply& reply);
  Result<void> record(const std::string& action, const std::string& payload) const;
  Result<void> change_dead_letters(uid_t by, const std::string& payload, Reply reply);
  void follow(const std::string& payload, Reply reply);
  void tell_followers();
  Result<std::int64_t> last_row();
  [[nodiscard]] std::string sinks_json() const;
  Result<store::Reader*> reader();

  EventLoop& loop_;
  store::Writer& writer_;
  alert::Deliverer& deliverer_;
  const std::string store_path_;
  Audit audit_;
  std::unique_ptr<store::Reader> reader_;  // opened when it is first needed
  std::vector<Follower> followers_;
  std::atomic<bool> followed_{false}, testing_{false};
  std::uint64_t next_follower_ = 1;
  std::thread tester_;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);  // shared: posted work may come after our end
};

}  // namespace daemoneye::apps
