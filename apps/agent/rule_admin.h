// What operators ask of rules: to enable, disable and grade them without editing their files. Loop thread only.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "detect/engine.h"
#include "ipc/messages.h"
#include "store/rule_overrides.h"
#include "store/writer.h"

namespace daemoneye::apps {

class RuleAdmin {
 public:
  using Reply = std::function<void(Result<std::string>)>;  // once; from any thread
  // False: it could not be kept for the ledger, and then nothing is changed.
  using Audit = std::function<bool(const std::string& action, const std::string& payload)>;
  // `engine` and `writer` outlive this.
  RuleAdmin(detect::Engine& engine, store::Writer& writer, std::string store_path, Audit audit);

  // A request of the kind change_rules. Answered when the change is on disk; the engine takes it over right after.
  void answer(uid_t by, const ipc::Request& request, Reply reply);

  // In one request; beyond that it is refused.
  static constexpr std::size_t max_rules = 1000, max_id_bytes = 128, max_note_bytes = 2000;

 private:
  // What was accepted and is not committed yet, in that order: who asks next is told of it, and so is the ledger.
  // The loop's and the writer's threads.
  class Pending {
   public:
    struct Accepted {
      store::OverrideChange change;
      std::vector<std::string> rules;
    };
    std::vector<Accepted> copy();
    std::uint64_t add(Accepted one);
    void remove(std::uint64_t number);

   private:
    std::mutex mutex_;
    std::map<std::uint64_t, Accepted> accepted_;
    std::uint64_t last_ = 0;
  };

  Result<std::string> change(uid_t by, const std::string& payload, Reply& reply);
  static store::RuleOverride current(const std::vector<Pending::Accepted>& accepted,
                                     const std::vector<store::RuleOverride>& committed, const std::string& id);

  detect::Engine& engine_;
  store::Writer& writer_;
  const std::string store_path_;
  Audit audit_;
  Pending pending_;
};

}  // namespace daemoneye::apps
