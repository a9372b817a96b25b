// The listening socket: operators (daemoneye-cli) ask, and a collector without a supervisor may come in here too.
// Peers are known by their credentials. Loop thread only.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "ipc/connection.h"

namespace daemoneye::apps {

class Operators {
 public:
  struct Options {
    std::string socket_path;
    std::string reader_group;  // empty: only root and ourselves
    std::string admin_group;
    std::optional<uid_t> collector_uid;  // who may come as a collector, besides root and ourselves
  };
  struct Handlers {
    std::function<std::string()> health_json, metrics_text;
    std::function<Result<std::string>(uid_t asked_by)> reload;
    std::function<Result<void>(uid_t asked_by)> rotate_audit_key;
    std::function<void(uid_t by, const std::string& payload)> on_refusal;
    std::function<Result<std::string>(uid_t by, const std::string& payload)> maintain;
    std::function<std::string()> maintenance_json;
    std::function<Result<void>(uid_t by, const std::string& payload)> bundle;
    std::function<void(uid_t by)> bundle_denied;  // one who may not asked for it
    std::function<Result<void>(uid_t by, const std::string& payload)> configuration;
    // Answers by itself, now or later, from any thread.
    using Reply = std::function<void(Result<std::string>)>;
    std::function<void(uid_t by, const ipc::Request& request, Reply reply)> alerting, rules;
    std::function<void(std::unique_ptr<ipc::Connection>, ipc::Message hello)> on_collector;
  };
  // Some places are kept for root, ourselves and the collector.
  static constexpr std::size_t max_peers = 64, max_peers_a_user = 8, reserved_peers = 8;
  static constexpr unsigned max_waiting = 4;  // requests of one peer that are answered later

  static Result<std::unique_ptr<Operators>> open(EventLoop& loop, Options options, Handlers handlers);
  ~Operators();

 private:
  struct Peer {
    std::unique_ptr<ipc::Connection> connection;
    ipc::PeerCredentials credentials;
    bool reader = false, admin = false, collector = false;
    unsigned waiting = 0;
  };
  Operators(EventLoop& loop, Options options, Handlers handlers);
  void on_accept(UniqueFd socket, const ipc::PeerCredentials& credentials);
  void on_message(std::uint64_t id, ipc::Message message);
  void drop(std::uint64_t id);
  void answer_later(std::uint64_t id, Peer& peer, const ipc::Request& request);
  void reply(std::uint64_t id, std::uint64_t request_id, Result<std::string> answer);
  Result<std::string> answer(const Peer& peer, const ipc::Request& request);

  EventLoop& loop_;
  Options options_;
  Handlers handlers_;
  std::unique_ptr<ipc::Listener> listener_;
  std::map<std::uint64_t, Peer> peers_;
  std::uint64_t next_id_ = 1;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);  // shared: an answer may come after our end
};

}  // namespace daemoneye::apps
