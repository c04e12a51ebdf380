package convoy

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountOf describes the mount that dir lies on, "ext4 rw,relatime", by its
// device number in /proc/self/mountinfo, proc_pid_mountinfo(5). It returns "" if
// the mount is not found.
func mountOf(dir string) string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return ""
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	device := strconv.Itoa(int(unix.Major(st.Dev))) + ":" + strconv.Itoa(int(unix.Minor(st.Dev)))
	return mountIn(string(text), device)
}

// FilesystemType returns the type of the file system of dir, "ext4"; "" if its
// mount is not found.
func FilesystemType(dir string) string {
	kind, _, _ := strings.Cut(mountOf(dir), " ")
	return kind
}

func mountIn(mountinfo, device string) string {
	for _, line := range strings.Split(mountinfo, "\n") {
		mount, super, found := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		source := strings.Fields(super)
		if found && len(fields) > 2 && fields[2] == device && len(source) > 2 {
			return source[0] + " " + source[2]
		}
	}
	return ""
}
