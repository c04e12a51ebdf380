package day03

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
	"github.com/nexuscore-labs/nexus/bpf/tenantroute"
	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// The packet that the programs are run with.
var (
	queryService = datagram.Service{Port: 7003, IPv4: netip.MustParseAddr("10.77.0.1")}
	queryClient  = netip.MustParseAddr("10.77.0.2")
)

// checkHandover runs each program over and over on one packet. Rings are full soon:
// then they cost what a full ring costs. So the cost by socket is that of the search
// for the tenant; copying into rings shows in the trials.
func checkHandover(_ context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	packet := queryPacket(3)
	for _, way := range []string{tenantroute.WaySocket, tenantroute.WayRing, tenantroute.WayPerf} {
		ns, err := programCost(way, packet, int(env.Params["runs"]))
		if errors.Is(err, unix.EPERM) || errors.Is(err, os.ErrPermission) {
			found.Claims = append(found.Claims, reports.ClaimResult{ID: "lesson-offset-is-ethernet", Verdict: scenarios.ClaimNotMeasurable, Evidence: "this user may not load BPF programs"})
			return found, nil
		}
		if err != nil {
			return found, err
		}
		found.Metrics = append(found.Metrics, reports.Metric{Name: "xdp_" + way + "_ns", Value: ns, Unit: "ns",
			Doc: "one run of the program that hands queries over by " + way + ", outside of any driver: parsing and the tenant's slot, and what a missing socket or a full ring costs"})
	}
	// Where the lesson reads the tenant there is the destination's MAC address.
	atZero := binary.LittleEndian.Uint32(packet)
	_, outcome := tenantroute.Decide(packet, queryService, func(tenant uint32) (uint32, bool) { return tenant, tenant == 3 })
	found.Claims = append(found.Claims, claim("lesson-offset-is-ethernet", atZero == 3 && outcome == tenantroute.HandedOver,
		"the first four bytes of a query's packet are %#x, part of the destination's MAC address; the tenant, 3, is behind the headers, where our program finds it: %s", atZero, outcome))
	return found, nil
}

func programCost(way string, packet []byte, runs int) (ns float64, err error) {
	r, err := tenantroute.Open(way, queryService)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.SetRoute(3, 3); err != nil {
		return 0, err
	}
	each, err := r.Cost(packet, max(1, runs))
	if err != nil {
		return 0, fmt.Errorf("run the program of %s: %w", way, err)
	}
	return float64(each), nil
}

// queryPacket is a whole Ethernet packet with a query.
func queryPacket(tenant uint32) []byte {
	payload := frame.Append(nil, frame.Frame{Kind: frame.KindQuery, Tenant: tenant,
		Body: graph.AppendQuery(nil, graph.Query{DepthMax: 1, ChunkLenMax: 1000})})
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	length := uint16(8 + len(payload))
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, 20+length)
	b = append(b, 0, 1, 0x40, 0, 64, 17, 0, 0)
	b = append(append(b, queryClient.AsSlice()...), queryService.IPv4.AsSlice()...)
	binary.NativeEndian.PutUint16(b[14+10:], ^datagram.Sum(b[14:34]))
	b = binary.BigEndian.AppendUint16(b, 40000)
	b = binary.BigEndian.AppendUint16(b, queryService.Port)
	b = binary.BigEndian.AppendUint16(b, length)
	return append(append(b, 0, 0), payload...)
}
