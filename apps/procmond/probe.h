// What `daemoneye-cli doctor` asks: which sources work here.
#pragma once

namespace daemoneye::procmond {

// Opens each source and closes it again; prints {"sources":[{"name":…,"works":B,"problem":…}]}. An exit code.
int probe_sources();

}  // namespace daemoneye::procmond
