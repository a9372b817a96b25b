// The example of docs/writing-a-sink.md, compiled and tested; a test holds both to the same text.
#include <gmock/gmock.h>

#include <mutex>

#include "alert/alert_test_util.h"
#include "alert/sinks/options.h"
#include "alert/sinks/sinks.h"
#include "base/file.h"

namespace daemoneye::alert {

// example begins
class SpoolSink final : public AlertSink {
 public:
  SpoolSink(std::string name, std::string folder, Formatter format)
      : name_(std::move(name)), folder_(std::move(folder)), format_(std::move(format)) {}

  // Puts each alert into a file of its own. A name per alert id makes a repeated delivery harmless.
  std::expected<DeliveryResult, DeliveryError> send(const store::Alert& alert, std::stop_token) override {
    const std::string path = folder_ + "/" + alert.alert_id + ".json";
    auto written = base::write_file_atomic(path, format_(alert), 0640);
    status_.set(written ? "" : written.error().message);
    if (!written) return std::unexpected(DeliveryError{written.error().message, /*permanent=*/false, {}});
    return DeliveryResult{};
  }
  HealthStatus health_check() override { return status_.get(); }
  [[nodiscard]] std::string_view name() const override { return name_; }

 private:
  const std::string name_, folder_;
  const Formatter format_;
  SinkStatus status_;
};

SinkType spool_sink_type() {
  SinkKeys keys;
  keys.push_back(text_key("folder", "", "Each alert becomes a file in this folder."));
  keys.back().required = true;
  keys.back().file = config::SinkKey::File::folder;
  return {"spool", std::move(keys), [](const config::SinkSettings& settings) -> Result<std::unique_ptr<AlertSink>> {
            DE_TRY(auto format, Formatter::make(settings, "json"));
            return std::make_unique<SpoolSink>(settings.name, text_option(settings, "folder"), std::move(format));
          }};
}
// example ends

namespace testing {
namespace {

using ::testing::HasSubstr;

config::SinkSettings spool_settings(const std::string& folder) {
  config::SinkSettings settings;
  settings.type = settings.name = "spool";
  settings.options["folder"] = folder;
  return settings;
}

TEST(ExampleSink, WritesAFileForEachAlertOnce) {
  TempFolder folder;
  auto sink = spool_sink_type().make(spool_settings(folder.path()));
  ASSERT_TRUE(sink) << sink.error().message;
  for (int i = 0; i < 2; ++i) EXPECT_TRUE((*sink)->send(make_alert("one"), {}));
  EXPECT_TRUE((*sink)->send(make_alert("two"), {}));
  EXPECT_THAT(read_all(folder.file("one.json")), HasSubstr("\"alert_id\":\"one\""));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
  EXPECT_TRUE((*sink)->health_check().healthy);
}

TEST(ExampleSink, AFolderThatIsGoneIsATemporaryErrorAndShownByHealth) {
  auto sink = spool_sink_type().make(spool_settings("/nonexistent/folder"));
  ASSERT_TRUE(sink);
  const auto result = (*sink)->send(make_alert("one"), {});
  ASSERT_FALSE(result);
  EXPECT_FALSE(result.error().permanent);
  EXPECT_FALSE((*sink)->health_check().healthy);
}

std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const auto from = text.find(begin);
  if (from == std::string::npos) return "(no begin)";
  const auto to = text.find(end, from + begin.size());
  return text.substr(from + begin.size(), to - from - begin.size());
}

TEST(ExampleSink, IsTheOneOfTheDocument) {
  const std::string root = DAEMONEYE_SOURCE_DIR;
  const auto compiled = between(read_all(root + "/src/alert/sinks/example_sink_test.cc"),
                                "// example "
                                "begins\n",
                                "// example "
                                "ends\n");
  EXPECT_EQ(between(read_all(root + "/docs/writing-a-sink.md"), "```cpp\n", "```\n"), compiled);
}

}  // namespace
}  // namespace testing
}  // namespace daemoneye::alert
