#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/support/machine.h"
#include "apps/support/process_memory.h"
#include "apps/support/statistics.h"
#include "apps/support/table.h"
#include "kernels/dispatch.h"

namespace sdq::apps {
namespace {

TEST_CASE("process memory: lines of the status file, zeros without them") {
  const ProcessMemory memory =
      ParseProcessStatus("Name:\tx\nVmHWM:\t    7208 kB\nRssAnon:\t 956 kB\nRssFile:\t1 kB\n");
  CHECK(memory.peak_resident == 7208 * 1024);
  CHECK(memory.anonymous == 956 * 1024);
  CHECK(ParseProcessStatus("Name:\tx\nVmHWM:").peak_resident == 0);
  CHECK(ParseProcessStatus("").anonymous == 0);
  const std::vector<char> held(size_t{32} << 20, 'x');  // written, hence resident
  const volatile char* const seen = held.data();        // so that no compiler leaves it out
  CHECK(seen[held.size() / 2] == 'x');
  const ProcessMemory now = ReadProcessMemory();
  if (now.peak_resident != 0) CHECK(now.anonymous >= held.size());
}

TEST_CASE("statistics: mean, sample deviation, median") {
  const Summary odd = Summarize(std::vector<double>{5, 1, 3});
  CHECK(odd.mean == 3);
  CHECK(odd.deviation == 2);
  CHECK(odd.median == 3);
  const Summary even = Summarize(std::vector<double>{8, 1, 2, 5});
  CHECK(even.mean == 4);
  CHECK(even.deviation == Approx(3.1622776602));
  CHECK(even.median == 3.5);
  const Summary single = Summarize(std::vector<double>{7});
  CHECK(single.mean == 7);
  CHECK(single.deviation == 0);
  CHECK(single.median == 7);
  const Summary none = Summarize({});
  CHECK(none.mean == 0);
  CHECK(none.deviation == 0);
  CHECK(none.median == 0);
}

Table SmallTable() {
  Table table(
      {{"name", "name"}, {"hidden", ""}, {"count", "count", true}, {"speed", "speed", true, 1}});
  table.Add({std::string("a|b"), std::string("say \"x\", y"), int64_t{7}, 1.25});
  table.Add({std::string("c"), {}, {}, 1000.0});
  return table;
}

TEST_CASE("table: Markdown leaves columns without a heading out and escapes bars") {
  CHECK(SmallTable().Format(TableFormat::kMarkdown) ==
        "| name | count |  speed |\n"
        "|------|------:|-------:|\n"
        "| a\\|b |     7 |    1.2 |\n"
        "| c    |       | 1000.0 |\n");
}

TEST_CASE("table: CSV quotes text and doubles its quotes") {
  CHECK(SmallTable().Format(TableFormat::kCsv) ==
        "\"name\",\"hidden\",\"count\",\"speed\"\n"
        "\"a|b\",\"say \"\"x\"\", y\",7,1.2\n"
        "\"c\",,,1000.0\n");
}

TEST_CASE("table: JSON keeps whole numbers and nulls") {
  const auto json = nlohmann::json::parse(SmallTable().Format(TableFormat::kJson));
  REQUIRE(json.size() == 2);
  CHECK(json[0]["name"] == "a|b");
  CHECK(json[0]["count"] == 7);
  CHECK(json[0]["speed"] == 1.25);
  CHECK(json[1]["hidden"].is_null());
  CHECK(json[1]["count"].is_null());
  const Table empty({{"name", "name"}, {"speed", "speed"}});
  CHECK(nlohmann::json::parse(empty.Format(TableFormat::kJson)).empty());
}

TEST_CASE("machine: targets by name, all of them, or the one in use") {
  std::vector<std::string> targets;
  CHECK(ResolveTargets(&targets).ok());
  CHECK(targets == std::vector<std::string>{kernels::TargetName()});
  targets = {"all"};
  CHECK(ResolveTargets(&targets).ok());
  CHECK(targets == kernels::AvailableTargets());
  targets = {"SCALAR", "no-such-target"};
  CHECK(ResolveTargets(&targets).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("machine: a small working set is read from cache, in a buffer of its size") {
  ReadYardstick yardstick(100000);
  const bool fits = LastLevelCacheBytes() >= 100000;  // 0 where the system does not say
  CHECK(yardstick.cached() == fits);
  CHECK((fits ? yardstick.bytes() == 100000 : yardstick.bytes() > size_t{100} << 20));
  CHECK(yardstick.BytesPerSecond() > 0);
}

TEST_CASE("machine: the time of a call counts single calls") {
  size_t calls = 0;
  const double seconds = SecondsPerCall([&] { ++calls; }, 1e-3);
  CHECK(seconds > 0);
  CHECK(calls > 10);
  CHECK(seconds * double(calls) < 60);
}

}  // namespace
}  // namespace sdq::apps
