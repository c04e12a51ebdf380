package machine

import (
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Families of distributions that Setup knows how to install on.
const (
	familyDebian = "debian"
	familyOther  = "other"
)

// packageFamily reads ID and ID_LIKE of os-release(5).
func packageFamily(release map[string]string) string {
	for _, id := range strings.Fields(release["ID"] + " " + release["ID_LIKE"]) {
		if id == "debian" || id == "ubuntu" {
			return familyDebian
		}
	}
	return familyOther
}

// aptListsAgeMax is how old the package lists may be before they are fetched
// again: an archive drops the old files within days.
const aptListsAgeMax = 24 * time.Hour

// aptListsOld reports whether the package lists are missing or old. The list
// files bear the archive's time; their folder bears the last update's.
func aptListsOld(root fs.FS, now time.Time) bool {
	lists, err := fs.Glob(root, "var/lib/apt/lists/*_Packages*")
	if err != nil || len(lists) == 0 {
		return true
	}
	var newest time.Time
	for _, name := range []string{"var/lib/apt/lists", "var/lib/apt/lists/partial", "var/lib/apt/periodic/update-success-stamp"} {
		if info, err := fs.Stat(root, name); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return now.Sub(newest) > aptListsAgeMax
}

// dpkgInterrupted reports whether an earlier installation was killed half way:
// dpkg then leaves its numbered journal behind and refuses to go on before
// "dpkg --configure -a".
func dpkgInterrupted(root fs.FS) bool {
	entries, err := fs.ReadDir(root, "var/lib/dpkg/updates")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return strings.Trim(e.Name(), "0123456789") == ""
	})
}

// dpkgLockSeconds is how long apt waits for another installation to end.
const dpkgLockSeconds = "120"

func aptUpdate() []string {
	return []string{"apt-get", "-o", "DPkg::Lock::Timeout=" + dpkgLockSeconds, "update"}
}

func aptInstall(packages []string) []string {
	argv := []string{"apt-get", "-o", "DPkg::Lock::Timeout=" + dpkgLockSeconds, "install", "-y", "--no-install-recommends", "--"}
	return append(argv, packages...)
}

var (
	errNoNetwork = errors.New("the package archive can't be reached: is there a network, and a proxy if one is needed?")
	errNoPackage = errors.New("the package lists of this system don't have them all")
	errAptLocked = errors.New("another package manager holds the lock")
)

var (
	aptNetworkPattern = regexp.MustCompile(`(?i)temporary failure resolving|could not resolve|could not connect|connection (timed out|refused)|network is unreachable|unable to connect|cannot initiate the connection`)
	aptUnknownPattern = regexp.MustCompile(`(?i)unable to locate package|has no installation candidate|404\s+not found`)
	aptLockPattern    = regexp.MustCompile(`(?i)could not get lock|unable to acquire the dpkg frontend lock`)
)

// aptFailure names what stopped apt from what it printed (in the C locale).
func aptFailure(output string, err error) error {
	switch {
	case aptNetworkPattern.MatchString(output):
		return errNoNetwork
	case aptLockPattern.MatchString(output):
		return errAptLocked
	case aptUnknownPattern.MatchString(output):
		return errNoPackage
	default:
		return err
	}
}
