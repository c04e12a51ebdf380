package machine

import (
	"context"
	"strings"
)

const groupTools = "Tools"

func checkTools(ctx context.Context, h host) []Finding {
	located := locateTools(h.root, h.options.Env("PATH"))
	return toolFindings(located, toolVersions(ctx, located), packageFamily(readOSRelease(h.root)))
}

func toolFindings(located, versions map[string]string, family string) []Finding {
	findings := make([]Finding, 0, len(tools))
	for _, t := range tools {
		f := Finding{ID: t.ID, Group: groupTools, Status: OK}
		name, found := located[t.ID]
		if !found {
			f.Status, f.Title = Absent, "no "+t.Name
			f.Costs, f.Fix = t.Costs, installCommand(t, family)
			findings = append(findings, f)
			continue
		}
		f.Title, f.Detail = strings.TrimSpace(t.Name+" "+versions[strings.TrimPrefix(t.ID, "tool.")]), name
		findings = append(findings, f)
	}
	return findings
}

func installCommand(t Tool, family string) string {
	if family == familyDebian {
		return "sudo apt-get install " + strings.Join(t.Debian, " ")
	}
	return "install " + t.Other + " with your system's package manager"
}
