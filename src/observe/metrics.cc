#include "observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <exception>
#include <limits>
#include <memory>
#include <mutex>

#include "observe/exposition.h"
#include "observe/log.h"

namespace daemoneye::observe {
namespace {

constexpr std::size_t max_foreign_bytes = 256 * 1024;
const std::vector<double> default_bounds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                            0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30};

// Never destroyed: handles are used until the program's very end.
prometheus::Registry& registry() {
  static auto* const instance = new prometheus::Registry;
  return *instance;
}

std::mutex& foreign_mutex() {
  static auto* const instance = new std::mutex;
  return *instance;
}
std::map<std::string, std::string, std::less<>>& foreign_texts() {
  static auto* const instance = new std::map<std::string, std::string, std::less<>>;
  return *instance;
}

// A name used for two kinds of metric, or no valid name, is a mistake in our code. It must not end the program:
// it is said, and the series is left out of the exposition.
void complain(std::string_view name, const std::exception& error) {
  log(Level::error, "observe", "a metric cannot be registered", {{"name", name}, {"error", error.what()}});
}

}  // namespace

Counter counter(std::string_view name, std::string_view help, const Labels& labels) {
  Counter handle;
  try {
    auto& family = prometheus::BuildCounter().Name(std::string(name)).Help(std::string(help)).Register(registry());
    handle.impl_ = &family.Add(labels);
  } catch (const std::exception& error) {
    complain(name, error);
    static prometheus::Counter unlisted;
    handle.impl_ = &unlisted;
  }
  return handle;
}

void Counter::add(double amount) const {
  if (impl_ != nullptr) static_cast<prometheus::Counter*>(impl_)->Increment(amount);
}
double Counter::value() const { return impl_ == nullptr ? 0 : static_cast<prometheus::Counter*>(impl_)->Value(); }

Gauge gauge(std::string_view name, std::string_view help, const Labels& labels) {
  Gauge handle;
  try {
    auto& family = prometheus::BuildGauge().Name(std::string(name)).Help(std::string(help)).Register(registry());
    handle.impl_ = &family.Add(labels);
  } catch (const std::exception& error) {
    complain(name, error);
    static prometheus::Gauge unlisted;
    handle.impl_ = &unlisted;
  }
  return handle;
}

void Gauge::set(double value) const {
  if (impl_ != nullptr) static_cast<prometheus::Gauge*>(impl_)->Set(value);
}
double Gauge::value() const { return impl_ == nullptr ? 0 : static_cast<prometheus::Gauge*>(impl_)->Value(); }

Histogram histogram(std::string_view name, std::string_view help, const Labels& labels,
                    const std::vector<double>& bounds) {
  Histogram handle;
  const auto& used = bounds.empty() ? default_bounds : bounds;
  try {
    auto& family = prometheus::BuildHistogram().Name(std::string(name)).Help(std::string(help)).Register(registry());
    handle.impl_ = &family.Add(labels, used);
  } catch (const std::exception& error) {
    complain(name, error);
    static prometheus::Histogram unlisted(default_bounds);
    handle.impl_ = &unlisted;
  }
  return handle;
}

void Histogram::observe(double value) const {
  if (impl_ != nullptr) static_cast<prometheus::Histogram*>(impl_)->Observe(value);
}

double Histogram::quantile(double q) const {
  if (impl_ == nullptr) return 0;
  const auto collected = static_cast<prometheus::Histogram*>(impl_)->Collect().histogram;
  if (collected.sample_count == 0) return 0;
  const double wanted = q * static_cast<double>(collected.sample_count);
  for (const auto& bucket : collected.bucket) {
    if (static_cast<double>(bucket.cumulative_count) >= wanted && bucket.cumulative_count > 0) {
      return bucket.upper_bound;
    }
  }
  return std::numeric_limits<double>::infinity();
}

std::string metrics_text() {
  const auto own = prometheus::TextSerializer().Serialize(registry().Collect());
  std::map<std::string, std::string, std::less<>> foreign;
  {
    const std::lock_guard lock(foreign_mutex());
    foreign = foreign_texts();
  }
  Exposition all = parse_exposition(own);
  std::size_t refused = 0;
  for (const auto& [origin, text] : foreign) {
    Exposition other = parse_exposition(text);
    refused += other.refused_lines;
    merge(all, std::move(other), origin);
  }
  if (refused > 0) {
    all.families.push_back({"daemoneye_foreign_metrics_refused_lines",
                            "Lines of other programs' metrics that are not in the text format.",
                            "gauge",
                            {{"daemoneye_foreign_metrics_refused_lines", "", static_cast<double>(refused)}}});
  }
  return to_text(all);
}

void set_foreign_metrics(std::string_view origin, std::string text) {
  if (text.size() > max_foreign_bytes) {
    log(Level::warn, "observe", "metrics of another program are too large and were not taken",
        {{"origin", origin}, {"bytes", static_cast<std::uint64_t>(text.size())}});
    return;
  }
  const std::lock_guard lock(foreign_mutex());
  foreign_texts().insert_or_assign(std::string(origin), std::move(text));
}

Histogram collection_duration(bool success) {
  return histogram("daemoneye_collection_duration_seconds", "Time of one reconciliation scan.",
                   {{"status", success ? "success" : "error"}});
}

Counter processes_collected() {
  return counter("daemoneye_processes_collected_total", "Processes seen by reconciliation scans.");
}

Counter alerts_generated(std::string_view severity) {
  return counter("daemoneye_alerts_generated_total", "Alerts raised.", {{"severity", std::string(severity)}});
}

Counter alert_deliveries(std::string_view sink_type) {
  return counter("daemoneye_alert_deliveries_total", "Alerts delivered, by the type of sink.",
                 {{"sink", std::string(sink_type)}});
}

}  // namespace daemoneye::observe
