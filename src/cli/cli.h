// The command line: one invocation, from its arguments to its exit code. Everything outside comes in through Io, so
// that tests run verbs inside their own process.
#pragma once

#include <chrono>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "config/config.h"

namespace daemoneye::cli {

struct Io {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool terminal = false;     // `out` is one
  unsigned width = 0;        // its columns; 0: unknown
  unsigned height = 0;       // its lines; 0: unknown
  bool in_terminal = false;  // somebody types at `in`
  std::function<config::Sources(std::optional<std::string> config_file, std::vector<std::string> set)> sources =
      config::sources_from_process;
  // Called once the time limit is known: the last resort when a verb does not come back by itself. 0: no limit.
  std::function<void(std::chrono::nanoseconds)> limit_time = [](std::chrono::nanoseconds) {};
  // Whether somebody wants it to end (Ctrl-C). From the first question on that only ends verbs that ask.
  std::function<bool()> interrupted = [] { return false; };
  // Whether nobody will read what is written to `out` any more.
  std::function<bool()> reader_is_gone = [] { return false; };
  // It was heard: from now on only the next one counts.
  std::function<void()> forget_interrupt = [] {};
  // Shows a file to a person, page by page, until they have seen enough; false: there is no pager.
  std::function<bool(int file)> page = [](int) { return false; };
  // Has procmond try each source of events: what it prints. None: it cannot be asked.
  std::function<Result<std::string>(Deadline)> probe_sources = {};
};

// `arguments` without the program's name. Gives the exit code.
int run(const std::vector<std::string>& arguments, Io& io);

// docs/commands.md, made from the same definition.
std::string command_reference();

}  // namespace daemoneye::cli
