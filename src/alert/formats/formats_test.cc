// Each format against its published list of fields (tests/data/formats), with a tame and a hostile alert.
#include "alert/formats/formats.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "alert/alert_test_util.h"
#include "alert/format.h"
#include "base/text.h"

namespace daemoneye::alert::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::string data_file(const std::string& name) {
  return read_all(std::string(DAEMONEYE_SOURCE_DIR) + "/tests/data/formats/" + name);
}

store::Alert full_alert() {
  auto alert = make_alert("0123456789abcdef0123456789abcdef");
  alert.process_key = "boot:42:1000";
  alert.correlation_id = "c0ffee";
  alert.tags = {"attack.t1059.004"};
  alert.count = 3;
  alert.row_json = R"({"pid":42,"n":7,"note":"a \"quoted\" word"})";
  alert.process_json = R"({"process":{"pid":42,"process_key":"boot:42:1000","name":"bash","uid":1000,"user":"ann",)"
                       R"("executable_path":"/usr/bin/bash","executable_hash":"aabb","cwd":"/tmp",)"
                       R"("arguments":"[\"bash\",\"-i\"]","start_time":"2026-11-21T20:48:23.123456789Z"},)"
                       R"("ancestors":[{"pid":7,"process_key":"boot:7:1","name":"nginx","uid":33,)"
                       R"("executable_path":"/usr/sbin/nginx","command_line":"nginx: worker"}]})";
  return alert;
}

// Whatever somebody can put into a name, an argument or a rule.
store::Alert hostile_alert() {
  auto alert = full_alert();
  const std::string evil = "a|b=c\\d\"e]f\x1b[2Jg\r\nHIGH forged\n{{pid}}<script>alert(1)</script>\xff\xc2\x9b&'\x7f" +
                           std::string(1, '\0') + "x";
  alert.title = alert.description = evil;
  alert.name = alert.command_line = alert.executable_path = evil;
  alert.rule_id = "r|\n" + evil;
  alert.host = "h\n" + evil;
  alert.row_json = Json{{"c", base::to_valid_utf8(evil)}}.dump();
  return alert;
}

store::Alert bare_alert() {
  store::Alert alert;
  alert.alert_id = "x";
  alert.rule_id = "r";
  return alert;
}

std::vector<store::Alert> all_alerts() { return {full_alert(), hostile_alert(), bare_alert()}; }

TEST(Formats, EachIsValidUtf8AndAllButTextAreOneLine) {
  for (const auto& alert : all_alerts()) {
    for (const auto& format : formats()) {
      if (format == "template") continue;
      const auto text = format_alert(alert, format, false);
      EXPECT_EQ(text, base::to_valid_utf8(text)) << format;
      EXPECT_TRUE(format == "text" || !text.contains('\n')) << format;
      // JSON escapes no DEL, and need not.
      const bool json = text.starts_with('{');
      const bool clean = std::ranges::none_of(
          text, [&](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || (c == 0x7f && !json); });
      EXPECT_TRUE(clean) << format;
    }
  }
}

TEST(TextFormat, TellsWhatHappenedToWhomAndWhere) {
  const auto text = format_alert(make_alert("id-1"), "text", false);
  for (const char* part : {"HIGH", "Something happened", "some-rule", "pid 42", "/usr/bin/bash", "bash -i",
                           "/usr/sbin/nginx", "pid 7", "web1", "evidence 17", "id-1"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(format_alert(make_alert("id-1"), "text", true).find("\x1b[31m"), std::string::npos);
}

TEST(TextFormat, LetsNoEscapeSequenceAndNoForgedLineThrough) {
  const auto text = format_alert(hostile_alert(), "text", false);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find("\nHIGH"), std::string::npos);
}

// ---- ECS ----

struct EcsField {
  std::string type;
  bool array = false;
};

std::map<std::string, EcsField> ecs_fields() {
  std::map<std::string, EcsField> fields;
  std::istringstream lines(data_file("ecs_8.4_fields.csv"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    const auto parts = base::split(line, ',');
    fields[std::string(parts.at(0))] = {std::string(parts.at(1)), parts.at(2) == "array"};
  }
  return fields;
}

void check_ecs(const Json& json, const std::string& prefix, const std::map<std::string, EcsField>& fields) {
  for (const auto& [key, value] : json.items()) {
    std::string name = prefix;
    if (!name.empty()) name += '.';
    name += key;
    if (name == "daemoneye") continue;  // our own
    if (value.is_object()) {
      check_ecs(value, name, fields);
      continue;
    }
    const auto field = fields.find(name);
    ASSERT_NE(field, fields.end()) << name << " is not in ECS 8.4";
    EXPECT_EQ(value.is_array(), field->second.array) << name;
    for (const auto& one : value.is_array() ? value : Json::array({value})) {
      const auto& type = field->second.type;
      if (type == "long") {
        EXPECT_TRUE(one.is_number_integer()) << name;
      } else if (type == "date") {
        EXPECT_TRUE(one.is_string() && base::parse_iso(one.get<std::string>())) << name;
      } else {
        EXPECT_TRUE(one.is_string()) << name;
      }
    }
  }
}

TEST(EcsFormat, HasOnlyFieldsOfTheReferenceWithTheirTypes) {
  const auto fields = ecs_fields();
  ASSERT_GT(fields.size(), 80U);
  for (const auto& alert : all_alerts()) check_ecs(Json::parse(format_alert(alert, "ecs", false)), "", fields);
}

TEST(EcsFormat, SaysWhatTheAlertSays) {
  const auto json = Json::parse(format_alert(full_alert(), "ecs", false));
  EXPECT_EQ(json.at("event").at("kind"), "alert");
  EXPECT_EQ(json.at("event").at("id"), "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(json.at("event").at("severity"), 73);
  EXPECT_EQ(json.at("ecs").at("version"), "8.4.0");
  EXPECT_EQ(json.at("rule").at("id"), "some-rule");
  EXPECT_EQ(json.at("process").at("pid"), 42);
  EXPECT_EQ(json.at("process").at("args"), (Json{"bash", "-i"}));
  EXPECT_EQ(json.at("process").at("parent").at("name"), "nginx");
  EXPECT_EQ(json.at("process").at("hash").at("sha256"), "aabb");
  EXPECT_EQ(json.at("user").at("name"), "ann");
  EXPECT_EQ(json.at("tags"), (Json{"attack.t1059.004"}));
  EXPECT_EQ(json.at("daemoneye").at("alert").at("count"), 3);
}

// ---- OCSF ----

void check_ocsf(const Json& value, const std::string& type, const Json& schema, const std::string& where);

void check_ocsf_object(const Json& object, const Json& shape, const Json& schema, const std::string& where) {
  ASSERT_TRUE(object.is_object()) << where;
  for (const auto& name : shape.at("required")) EXPECT_TRUE(object.contains(name)) << where << " lacks " << name;
  if (shape.contains("at_least_one")) {
    bool one = false;
    for (const auto& name : shape.at("at_least_one")) one = one || object.contains(name);
    EXPECT_TRUE(one) << where << " needs one of " << shape.at("at_least_one");
  }
  for (const auto& [key, value] : object.items()) {
    ASSERT_TRUE(shape.at("attributes").contains(key)) << where << '.' << key << " is not in OCSF 1.3.0";
    std::string below = where;
    below += '.';
    below += key;
    check_ocsf(value, shape.at("attributes").at(key), schema, below);
  }
}

void check_ocsf(const Json& value, const std::string& type, const Json& schema, const std::string& where) {
  if (type == "any") return;
  if (type.starts_with('[')) {
    ASSERT_TRUE(value.is_array()) << where;
    for (const auto& one : value) check_ocsf(one, type.substr(1, type.size() - 2), schema, where);
  } else if (type == "string") {
    EXPECT_TRUE(value.is_string()) << where;
  } else if (type == "integer" || type == "timestamp") {
    ASSERT_TRUE(value.is_number_integer()) << where;
    // Milliseconds: between 1970 and 2100, not seconds and not nanoseconds.
    EXPECT_TRUE(type == "integer" || value.get<std::int64_t>() < 4'102'444'800'000) << where;
  } else {
    check_ocsf_object(value, schema.at("objects").at(type), schema, where);
  }
}

TEST(OcsfFormat, HasOnlyAttributesOfTheClassWithTheirTypes) {
  const auto schema = Json::parse(data_file("ocsf_1.3.0.json"));
  for (const auto& alert : all_alerts()) {
    const auto json = Json::parse(format_alert(alert, "ocsf", false));
    check_ocsf_object(json, schema.at("class"), schema, "detection_finding");
    for (const auto& [key, allowed] : schema.at("class").at("values").items()) {
      EXPECT_TRUE(std::ranges::find(allowed, json.at(key)) != allowed.end()) << key << " is " << json.at(key);
    }
    EXPECT_EQ(json.at("type_uid").get<int>(),
              json.at("class_uid").get<int>() * 100 + json.at("activity_id").get<int>());
  }
}

TEST(OcsfFormat, SaysWhatTheAlertSays) {
  const auto json = Json::parse(format_alert(full_alert(), "ocsf", false));
  EXPECT_EQ(json.at("class_uid"), 2004);
  EXPECT_EQ(json.at("severity_id"), 4);
  EXPECT_EQ(json.at("time"), 1'800'000'000'000);
  EXPECT_EQ(json.at("metadata").at("version"), "1.3.0");
  EXPECT_EQ(json.at("finding_info").at("analytic").at("uid"), "some-rule");
  const auto& process = json.at("evidences").at(0).at("process");
  EXPECT_EQ(process.at("pid"), 42);
  EXPECT_EQ(process.at("parent_process").at("name"), "nginx");
  EXPECT_EQ(process.at("file").at("hashes").at(0).at("value"), "aabb");
}

// ---- CEF ----

struct Cef {
  std::vector<std::string> header;
  std::map<std::string, std::string> extension;
};

// Reads CEF as a receiver does.
Cef read_cef(const std::string& text) {
  Cef cef;
  std::string field;
  std::size_t at = 0;
  for (; at < text.size() && cef.header.size() < 7; ++at) {
    if (text[at] == '\\' && at + 1 < text.size()) {
      field += text[++at];
    } else if (text[at] == '|') {
      cef.header.push_back(std::exchange(field, {}));
    } else {
      field += text[at];
    }
  }
  // key=value key=value: a key is the word before an unescaped '='.
  std::string key, value;
  for (; at < text.size(); ++at) {
    if (text[at] == '\\' && at + 1 < text.size()) {
      const char next = text[++at];
      value += next == 'n' ? '\n' : next;
    } else if (text[at] == '=') {
      const auto space = value.rfind(' ');
      if (!key.empty()) cef.extension[key] = value.substr(0, space);
      key = space == std::string::npos ? value : value.substr(space + 1);
      value.clear();
    } else {
      value += text[at];
    }
  }
  if (!key.empty()) cef.extension[key] = value;
  return cef;
}

TEST(CefFormat, HasOnlyKeysOfTheDictionaryWithTheirTypesAndLengths) {
  std::map<std::string, std::pair<std::string, std::size_t>> dictionary;
  std::istringstream lines(data_file("cef_fields.csv"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    const auto parts = base::split(line, ',');
    dictionary[std::string(parts.at(0))] = {std::string(parts.at(1)), *base::parse_integer<std::size_t>(parts.at(2))};
  }
  for (auto alert : all_alerts()) {
    alert.command_line = alert.command_line.value_or("") + std::string(9000, 'x');
    const auto text = format_alert(alert, "cef", false);
    const auto cef = read_cef(text);
    ASSERT_EQ(cef.header.size(), 7U) << text;
    EXPECT_EQ(cef.header[0], "CEF:0");
    const auto severity = base::parse_integer<int>(cef.header[6]);
    EXPECT_TRUE(severity && *severity >= 0 && *severity <= 10);
    for (const auto& [key, value] : cef.extension) {
      const auto known = dictionary.find(key);
      ASSERT_NE(known, dictionary.end()) << key << " is not in the dictionary; " << text;
      if (known->second.first == "string") {
        EXPECT_LE(value.size(), known->second.second) << key;
      } else {
        EXPECT_TRUE(base::parse_integer<std::int64_t>(value)) << key << '=' << value;
      }
    }
  }
}

TEST(CefFormat, EscapesSoThatAReceiverReadsWhatWasMeant) {
  auto alert = full_alert();
  alert.title = "pipe | back \\ slash";
  alert.description = "equal = sign \\ and\nline cs1=forged";
  const auto cef = read_cef(format_alert(alert, "cef", false));
  EXPECT_EQ(cef.header.at(5), alert.title);
  EXPECT_EQ(cef.extension.at("msg"), alert.description);
  EXPECT_EQ(cef.extension.at("cs1"), "bash -i");
  EXPECT_EQ(cef.extension.at("externalId"), alert.alert_id);
}

// ---- template ----

config::SinkSettings template_settings(const std::string& text) {
  config::SinkSettings settings;
  settings.type = settings.name = "file";
  settings.format = "template";
  settings.text_template = text;
  return settings;
}

TEST(TemplateFormat, PutsFieldsInPlace) {
  const auto format = Formatter::make(
      template_settings("{{severity}} {{ title }} pid={{pid}} n={{row.n}} none={{row.x}} {\"t\": {{json:row.note}}, "
                        "\"x\": {{json:row.x}}, \"p\": {{json:pid}}}"),
      "json");
  ASSERT_TRUE(format) << format.error().message;
  EXPECT_EQ((*format)(full_alert()),
            "high Something happened pid=42 n=7 none= {\"t\": \"a \\\"quoted\\\" word\", \"x\": null, \"p\": 42}");
}

TEST(TemplateFormat, TakesNothingInAnAlertForAPlaceholderAndNoLineEnd) {
  const auto format = Formatter::make(template_settings("{{command_line}}|{{title}}"), "json");
  ASSERT_TRUE(format);
  const auto text = (*format)(hostile_alert());
  EXPECT_THAT(text, HasSubstr("{{pid}}"));
  EXPECT_FALSE(text.contains('\n'));
  EXPECT_FALSE(text.contains('\x1b'));
}

TEST(TemplateFormat, EveryFieldThereIsCanBeUsed) {
  for (const auto field : Template::fields()) {
    const auto made = Template::parse("{{" + std::string(field) + "}}{{json:" + std::string(field) + "}}");
    ASSERT_TRUE(made) << field;
    EXPECT_FALSE(made->render(full_alert()).empty()) << field;
  }
}

TEST(TemplateFormat, IsRefusedWithThePlaceAndAHint) {
  const auto problem = [](const std::string& text) {
    const auto made = Formatter::make(template_settings(text), "json");
    return made ? "(no problem)" : made.error().message;
  };
  EXPECT_EQ(problem("x {{titles}}"), "sink file: template: unknown field 'titles' at byte 3; did you mean title?");
  EXPECT_THAT(problem("{{row.}}"), HasSubstr("unknown field 'row.'"));
  EXPECT_THAT(problem("abc {{pid"), HasSubstr("'{{' at byte 5 is never closed"));
  std::string many;
  for (int i = 0; i < 65; ++i) many += "{{pid}}";
  EXPECT_THAT(problem(many), HasSubstr("more than 64 placeholders"));
  EXPECT_THAT(problem(""), HasSubstr("go together"));
  auto without = template_settings("{{pid}}");
  without.format = "json";
  EXPECT_FALSE(Formatter::make(without, "json"));
}

TEST(HtmlFormat, HoldsNoMarkupOfTheAlert) {
  const auto html = format_html(hostile_alert());
  EXPECT_FALSE(html.contains("<script"));
  EXPECT_TRUE(html.contains("&lt;script&gt;"));
  EXPECT_FALSE(html.contains("c\\d\"e"));
}

}  // namespace
}  // namespace daemoneye::alert::testing
