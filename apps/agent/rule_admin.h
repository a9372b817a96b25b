// What operators ask of rules: to enable, disable and grade them without editing their files. Loop thread only.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "detect/engine.h"
#include "ipc/messages.h"
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
  Result<std::string> change(uid_t by, const std::string& payload, Reply& reply);

  detect::Engine& engine_;
  store::Writer& writer_;
  const std::string store_path_;
  Audit audit_;
};

}  // namespace daemoneye::apps
