#include "sensor/source_chain.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace daemoneye::sensor {
namespace {

using nlohmann::json;

constexpr std::size_t max_file = 16 * 1024;
constexpr std::size_t max_failures = 8;
constexpr std::size_t max_name = 32, max_reason = 1024;
constexpr int format = 1;
constexpr unsigned file_mode = 0640;

constexpr std::string_view only_scans = "a process that lives less than a scan interval is not seen";

std::unexpected<Error> not_ours(const std::string& path, const std::string& what) {
  return fail(Errc::corrupt, path + ": " + what + "; no source is left out because of it");
}

// Read as root from a folder of the collector's user: neither a link nor a pipe may lead or hold us elsewhere.
Result<std::optional<std::string>> read_regular(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) return fail_errno(path, errno);
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return fail_errno(path, errno);
  if (!S_ISREG(info.st_mode)) return not_ours(path, "not a regular file");
  DE_TRY(auto text, base::read_up_to(file.get(), max_file + 1));
  if (text.size() > max_file) return not_ours(path, "longer than " + std::to_string(max_file) + " bytes");
  return text;
}

bool has_only(const json& object, std::initializer_list<std::string_view> keys) {
  return object.is_object() && object.size() == keys.size() &&
         std::ranges::all_of(keys, [&](std::string_view key) { return object.contains(key); });
}

std::string boot_text(const event::BootId& boot) {
  return base::to_hex(std::string_view(reinterpret_cast<const char*>(boot.data()), boot.size()));
}

Result<std::vector<SourceFailure>> parse(const std::string& path, const std::string& text, const event::BootId& boot) {
  const auto file = json::parse(text, nullptr, false);
  if (file.is_discarded() || !has_only(file, {"format", "boot_id", "failures"}) || file["format"] != format ||
      !file["boot_id"].is_string() || !file["failures"].is_array() || file["failures"].size() > max_failures) {
    return not_ours(path, "not a file of source failures, format " + std::to_string(format));
  }
  std::vector<SourceFailure> failures;
  for (const auto& entry : file["failures"]) {
    if (!has_only(entry, {"source", "uptime_s", "reason"}) || !entry["source"].is_string() ||
        !entry["uptime_s"].is_number_unsigned() || !entry["reason"].is_string()) {
      return not_ours(path, "an entry is not a source failure");
    }
    SourceFailure failure{.source = entry["source"], .uptime = {}, .reason = entry["reason"]};
    const auto seconds = entry["uptime_s"].get<std::uint64_t>();
    if (failure.source.size() > max_name || failure.reason.size() > max_reason || seconds > UINT32_MAX) {
      return not_ours(path, "an entry is out of its bounds");
    }
    failure.uptime = std::chrono::seconds(seconds);
    failures.push_back(std::move(failure));
  }
  // An uptime says nothing in another boot.
  if (file["boot_id"] != boot_text(boot)) failures.clear();
  return failures;
}

Timestamp later(Timestamp time, std::chrono::nanoseconds span) { return {time.ns + span.count()}; }

}  // namespace

Result<std::vector<SourceFailure>> recent_failures(const std::string& path, const event::BootId& boot,
                                                   std::chrono::seconds uptime) {
  DE_TRY(const auto text, read_regular(path));
  if (!text) return {};
  DE_TRY(auto failures, parse(path, *text, boot));
  std::erase_if(failures, [&](const SourceFailure& failure) {
    return failure.uptime > uptime || uptime - failure.uptime > failed_source_rest;
  });
  return failures;
}

Result<void> remember_failure(const std::string& path, const event::BootId& boot, const SourceFailure& failure) {
  // What cannot be read is replaced: an old failure is worth less than this one.
  auto failures = recent_failures(path, boot, failure.uptime).value_or(std::vector<SourceFailure>{});
  std::erase_if(failures, [&](const SourceFailure& earlier) { return earlier.source == failure.source; });
  failures.push_back(failure);
  if (failures.size() > max_failures) failures.erase(failures.begin());
  json entries = json::array();
  for (const auto& entry : failures) {
    entries.push_back({{"source", entry.source.substr(0, max_name)},
                       {"uptime_s", static_cast<std::uint64_t>(entry.uptime.count())},
                       {"reason", base::to_valid_utf8(entry.reason).substr(0, max_reason - 8)}});
  }
  const json file{{"format", format}, {"boot_id", boot_text(boot)}, {"failures", std::move(entries)}};
  return base::write_file_atomic(path, file.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", file_mode);
}

std::chrono::seconds uptime_now() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec);
}

Result<Choice> choose_source(const std::string& wanted, const std::vector<Candidate>& candidates,
                             const std::vector<SourceFailure>& failures, std::chrono::seconds uptime, Timestamp now) {
  Choice choice;
  if (wanted == "off") {
    choice.reason = "collection.realtime is off";
    choice.limits = choice.reason + ": " + std::string(only_scans);
    return choice;
  }
  if (wanted != "auto") {
    const auto found = std::ranges::find(candidates, wanted, &Candidate::name);
    if (found == candidates.end()) {
      return fail(Errc::unavailable, "collection.realtime: the " + wanted + " source is not in this build");
    }
    auto source = found->open();
    if (!source) {
      return fail(Errc::unavailable, "collection.realtime is " + wanted + ", but: " + source.error().message);
    }
    choice.source = std::move(*source);
    choice.reason = "collection.realtime is " + wanted;
    choice.limits = choice.source->limits();
    return choice;
  }
  std::string passed_over;
  for (const auto& candidate : candidates) {
    const auto pass_over = [&](const std::string& why) {
      passed_over += (passed_over.empty() ? "" : "; ") + candidate.name + ": " + why;
    };
    if (const auto failed = std::ranges::find(failures, candidate.name, &SourceFailure::source);
        failed != failures.end()) {
      const auto when = later(now, failed->uptime - uptime);
      // Times and not spans: health shows this text for as long as we run.
      pass_over("failed at " + base::to_iso(when) + " (" + base::printable(failed->reason) + "), left out until " +
                base::to_iso(later(when, failed_source_rest)) + ", then tried again when procmond next starts");
      continue;
    }
    auto source = candidate.open();
    if (!source) {
      pass_over(source.error().message);
      continue;
    }
    choice.source = std::move(*source);
    break;
  }
  const auto limits = choice.source ? choice.source->limits() : std::string(only_scans);
  if (passed_over.empty()) {
    choice.reason = "the best there is";
    choice.limits = limits;
    return choice;
  }
  choice.reason = "the best that works; passed over: " + passed_over;
  const std::string who = choice.source ? "real-time source " + std::string(choice.source->name())
                                        : std::string("no real-time source, only scans");
  choice.limits = who + " (" + passed_over + ")" + (limits.empty() ? "" : ": " + limits);
  return choice;
}

}  // namespace daemoneye::sensor
