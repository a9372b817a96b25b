// A statement of the user's: read, refused with a caret, run with progress and Ctrl-C, shown page by page on a
// terminal. What `query` and `shell` share.
#pragma once

#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "cli/invocation.h"

namespace daemoneye::cli {

// A refusal is recorded in the ledger by the agent when it is there: here of what is not accepted, and by
// run_statement() of what takes more time, memory or room than it may.
Outcome<sql::Compiled> compile_statement(Invocation& invocation, const std::string& text);

// NAME=VALUE each: whole numbers and decimals are numbers, 'quoted' and all else is text. Every parameter of the
// statement needs a value; with `strict` every value needs a parameter.
Outcome<std::map<std::string, event::Value>> parse_parameters(const std::vector<std::string>& given,
                                                              const sql::Compiled& compiled, bool strict);

struct RunChoices {
  std::string text;  // of the statement, of which the ledger gets a digest
  std::map<std::string, event::Value> parameters;
  std::uint64_t limit = 0;  // of rows; 0: none
  bool explain = false, timing = false;
  Deadline deadline = Deadline::never();
  bool tell_complete = true;  // say it also when nothing is missing
};
// Before a person is waited for, the connection is closed: nothing of the store is held while they read.
Outcome<Exit> run_statement(Invocation& invocation, std::unique_ptr<sql::Connection> connection,
                            const sql::Compiled& compiled, RunChoices choices);

// Asks whether somebody wants it to end, or nobody is there any more, while it lives, and then requests the stop.
class InterruptWatch {
 public:
  explicit InterruptWatch(Io& io);
  [[nodiscard]] std::stop_token token() const { return wanted_.get_token(); }

 private:
  std::stop_source wanted_;
  std::jthread thread_;
};

}  // namespace daemoneye::cli
