package loadgen

import (
	"context"

	"github.com/nexuscore-labs/nexus/uring"
)

// Feature is a kernel capability of the generator.
type Feature struct {
	Name      string
	Supported bool
	Used      bool   // by Run, where supported
	Detail    string // what it is for, or why it isn't supported
}

// used are the features that Run takes when the kernel has them.
var used = map[string]bool{
	"single_issuer": true, "registered_ring": true, "abs_timer": true, "fixed_file": true,
	"fixed_buffer": true, "buf_ring": true, "multishot_recv": true,
	"udp_offload": true, // if the Config wants it
}

// Features tries what the kernel offers to the generator. The error says that
// io_uring can't be used at all, or that the context ended.
func Features(ctx context.Context) ([]Feature, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	support, err := uring.Probe()
	if err != nil {
		return nil, err
	}
	var list []Feature
	for _, f := range support.Features {
		list = append(list, Feature{Name: f.Name, Supported: f.Supported, Used: used[f.Name] && f.Supported, Detail: f.Detail})
	}
	return list, nil
}
