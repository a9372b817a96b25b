// Counters, gauges and histograms of this program, in Prometheus' text form. All thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace daemoneye::observe {

using Labels = std::map<std::string, std::string>;

// Handles are cheap to copy and live as long as the program.
class Counter {
 public:
  void add(double amount = 1) const;
  [[nodiscard]] double value() const;

 private:
  friend Counter counter(std::string_view, std::string_view, const Labels&);
  void* impl_ = nullptr;
};

class Gauge {
 public:
  void set(double value) const;
  [[nodiscard]] double value() const;

 private:
  friend Gauge gauge(std::string_view, std::string_view, const Labels&);
  void* impl_ = nullptr;
};

class Histogram {
 public:
  void observe(double value) const;
  // The upper bound of the bucket that holds quantile q (0..1); 0 without observations.
  [[nodiscard]] double quantile(double q) const;

 private:
  friend Histogram histogram(std::string_view, std::string_view, const Labels&, const std::vector<double>&);
  void* impl_ = nullptr;
};

// The same name and labels give the same series. Names begin with "daemoneye_".
Counter counter(std::string_view name, std::string_view help, const Labels& labels = {});
Gauge gauge(std::string_view name, std::string_view help, const Labels& labels = {});
Histogram histogram(std::string_view name, std::string_view help, const Labels& labels = {},
                    const std::vector<double>& bounds = {});  // default bounds: 100 us … 30 s

// The whole registry in text exposition format 0.0.4.
std::string metrics_text();
// Text exposition of another process (procmond), appended to ours under `origin`; the latest replaces the former.
void set_foreign_metrics(std::string_view origin, std::string text);

// The four fixed names of the contract.
Histogram collection_duration(bool success);
Counter processes_collected();
Counter alerts_generated(std::string_view severity);
Counter alert_deliveries(std::string_view sink_type);

}  // namespace daemoneye::observe
