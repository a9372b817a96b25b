// Which real-time source is used: the best that opens and has not just failed. What failed while it ran is remembered
// in a small file, so that the next start takes the next one; see docs/formats/source-failures.md.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sensor/source.h"

namespace daemoneye::sensor {

// For so long after its failure a source is left out.
inline constexpr std::chrono::seconds failed_source_rest{600};

struct SourceFailure {
  std::string source;              // Source::name()
  std::chrono::seconds uptime{0};  // CLOCK_BOOTTIME when it failed: not moved by clock steps
  std::string reason;              // for people, bounded
};

// The file's failures of this boot that are not older than failed_source_rest. No file: none. What is not such a file
// (of another format, too long, a link, not regular) is an error, and nothing of it is believed.
Result<std::vector<SourceFailure>> recent_failures(const std::string& path, const event::BootId& boot,
                                                   std::chrono::seconds uptime);
// Adds to what recent_failures() gives, in place of an earlier failure of the same source. Written whole or not at all.
Result<void> remember_failure(const std::string& path, const event::BootId& boot, const SourceFailure& failure);
// CLOCK_BOOTTIME.
std::chrono::seconds uptime_now();

struct Candidate {
  std::string name;  // as of collection.realtime
  std::function<Result<std::unique_ptr<Source>>()> open;
};
struct Choice {
  std::unique_ptr<Source> source;  // null: only scans see processes
  std::string reason;              // why this one
  std::string limits;              // what is not seen for want of a better one; empty: it is the best
};
// `wanted` is collection.realtime: auto goes through the candidates, best first; off takes none; a name takes that one,
// whatever has failed before, and its error when it does not open. `now` is the wall clock at `uptime`, for texts.
Result<Choice> choose_source(const std::string& wanted, const std::vector<Candidate>& candidates,
                             const std::vector<SourceFailure>& failures, std::chrono::seconds uptime, Timestamp now);

}  // namespace daemoneye::sensor
