package machine

import "strings"

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
