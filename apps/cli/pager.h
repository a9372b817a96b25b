// Shows a file page by page with the user's pager ($PAGER, else less).
#pragma once

namespace daemoneye::apps {

// The file from where it is read next to its end. False when there is no pager to start; true once it has ended.
bool show_in_pager(int file);

}  // namespace daemoneye::apps
