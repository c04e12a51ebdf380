package cli

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/vagrant"
	"github.com/nexuscore-labs/nexus/vagrant/proof"
)

// kernelNeeds are findings that only another kernel changes; none of them is
// missing in the matrix.
var kernelNeeds = []string{"kernel.version", "btf", "io_uring"}

// proposeKernel gives each finding that this kernel can't mend the command that
// runs a lab on one that can.
func proposeKernel(findings []machine.Finding) {
	for i := range findings {
		if f := &findings[i]; f.Status == machine.Absent && slices.Contains(kernelNeeds, f.ID) {
			f.Fix = onKernel(newestKernel())
		}
	}
}

// kernelFor is the command that runs a lab on a kernel which was seen to accept
// a kind of BPF program.
func kernelFor(kind string) string {
	var record proof.Record
	if err := json.Unmarshal(vagrant.Proven, &record); err != nil || len(record.Kernels) == 0 {
		return onKernel(newestKernel())
	}
	accepting := ""
	for _, k := range record.Kernels { // the newest last
		if k.Name != proof.HostName && slices.ContainsFunc(k.Kinds, func(s proof.Kind) bool { return s.Name == kind && s.OK }) {
			accepting = k.Name
		}
	}
	if accepting == "" {
		return "no kernel of the matrix accepts it either (docs/KERNELS.md)"
	}
	return onKernel(accepting)
}

// newestKernel is the newest that nexus vm can boot.
func newestKernel() string {
	newest := ""
	names, err := matrixKernels()
	if err == nil && len(names) > 0 {
		newest = names[len(names)-1]
	}
	return newest
}

func onKernel(name string) string {
	return fmt.Sprintf("make lab DAY=%d KERNEL=%s", labs.All()[0].Day, name)
}
