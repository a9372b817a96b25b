#include "agent/bundle_audit.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "bundle/in_force.h"
#include "observe/log.h"

namespace daemoneye::apps {
namespace {

using nlohmann::json;

constexpr std::size_t max_told_bytes = 16 * 1024;  // of what an operator's import says
// Of refusals in the ledger, which is not anybody's to fill; the rest is counted.
constexpr unsigned max_refusals_an_hour = 60;

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

void BundleAudit::look() {
  const auto in_force = bundle::read_in_force(path_);
  if (!in_force) {
    observe::log(observe::Level::warn, "bundle", "the bundle in force cannot be read",
                 {{"error", in_force.error().message}});
    return;
  }
  const auto digest = *in_force ? (*in_force)->digest : std::string();
  if (digest == told_) return;
  json payload = {{"in_force", in_force->has_value()}};
  if (const auto& bundle = *in_force) {
    payload.update({{"id", bundle->id},
                    {"version", bundle->version.text()},
                    {"digest", bundle->digest},
                    {"signer", bundle->signer},
                    {"imported", base::to_iso(bundle->imported)}});
  }
  if (audit_("bundle", dump(payload), std::nullopt)) told_ = digest;
}

void BundleAudit::denied(uid_t by) {
  refused(by, {{"reason", "neither root nor in the group of those who may change"}, {"by_uid", by}});
}

void BundleAudit::refused(uid_t by, json payload) {
  const auto now = base::SteadyClock::now();
  if (now - refusals_.hour > std::chrono::hours(1)) refusals_ = {now, 0, refusals_.unrecorded};
  if (refusals_.in_hour >= max_refusals_an_hour) {
    ++refusals_.unrecorded;
    return;
  }
  ++refusals_.in_hour;
  if (refusals_.unrecorded > 0) payload["unrecorded_before"] = std::exchange(refusals_.unrecorded, 0);
  if (!audit_("bundle_refused", dump(payload), by)) ++refusals_.unrecorded;
}

// The importer gave up on our answer. What was recorded is not true any more.
Result<bool> BundleAudit::taken_back(uid_t by, const json& asked) {
  DE_TRY(const auto in_force, bundle::read_in_force(path_));
  const auto digest = in_force ? in_force->digest : std::string();
  if (digest == told_) return false;  // the import was never recorded
  json payload = {{"by_uid", by}, {"taken_back", asked["bundle"]}, {"why", asked.value("why", json())}};
  payload["taken_back"]["digest"] = told_;
  payload["in_force"] =
      in_force ? json{{"id", in_force->id}, {"version", in_force->version.text()}, {"digest", digest}} : json(nullptr);
  if (!audit_("bundle_taken_back", dump(payload), by)) {
    return fail(Errc::limit_exceeded, "it could not be recorded: too much waits for the collector already");
  }
  told_ = digest;
  return true;
}

Result<bool> BundleAudit::answer(uid_t by, const std::string& payload) {
  const auto not_understood = [] { return fail(Errc::invalid_input, "bundle: not understood"); };
  // The size bounds the nesting, which the printer follows on the stack.
  if (payload.size() > max_told_bytes) return not_understood();
  const auto asked = json::parse(payload, nullptr, false);
  if (!asked.is_object() || !asked.contains("do") || !asked["do"].is_string()) return not_understood();
  if (asked["do"] == "may") return false;  // who may not was turned away before
  if (!asked.contains("bundle") || !asked["bundle"].is_object()) return not_understood();
  auto told = asked["bundle"];
  if (asked["do"] == "refused") {
    told["by_uid"] = by;
    refused(by, std::move(told));
    return false;
  }
  if (asked["do"] == "taken_back") return taken_back(by, asked);
  if (asked["do"] != "imported") return not_understood();
  DE_TRY(const auto in_force, bundle::read_in_force(path_));
  if (!in_force || told.value("digest", json()) != in_force->digest) {
    return fail(Errc::invalid_input,
                "the agent does not find this bundle in " + path_ + " (does it run with another bundle.path?)");
  }
  told["by_uid"] = by;
  if (!audit_("bundle_import", dump(told), by)) {
    return fail(Errc::limit_exceeded, "the import could not be recorded: too much waits for the collector already");
  }
  told_ = in_force->digest;
  return true;
}

}  // namespace daemoneye::apps
