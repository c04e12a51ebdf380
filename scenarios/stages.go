package scenarios

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/nexuscore-labs/nexus/bpf/stageprobe"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/scenarios/breakdown"
)

// tracedMax bounds how many answers of one trial are broken down.
const tracedMax = 1 << 18

// AsksForStages reports whether a point of the scenario can be broken down into
// stages, so that the probe for it is worth opening.
func (s *Scenario) AsksForStages() bool {
	for i := range s.Points {
		if s.Points[i].Stages && s.Points[i].Workload.Transport != transportUnix {
			return true
		}
	}
	return false
}

const (
	transportUnix = "unix"
	transportUDP  = "udp"
)

// stageGaps says for which points of a scenario that is broken down elsewhere
// the stages cannot be known.
func stageGaps(s *Scenario) []string {
	asked := false
	var unix []string
	for i := range s.Points {
		p := &s.Points[i]
		asked = asked || p.Stages
		if p.Workload.Transport == transportUnix {
			unix = append(unix, p.ID)
		}
	}
	if !asked || len(unix) == 0 {
		return nil
	}
	return []string{"stages of a request at " + strings.Join(unix, ", ") + ": unix sockets have no packets to stamp"}
}

// staging is a trial whose latency is being broken down; nil where it is not.
type staging struct {
	t     *trialRun
	probe *stageprobe.Probe
}

// startStages begins to log, before the generator makes its connections.
func (t *trialRun) startStages(address string) (*staging, error) {
	p := t.slot.point
	// The log is of one contender: two that run at the same time have none.
	if !p.Stages || t.stages == nil || t.group == nil || t.both != nil || t.slot.costing || t.workload().Transport == transportUnix || t.bed != nil {
		return nil, nil
	}
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, contenderError("", "it serves at %q, which is no address and port: %w", address, err)
	}
	root, err := machine.Cgroup2Root()
	if err != nil {
		return nil, environmentError("", "%w", err)
	}
	if err := t.stages.Start(stageprobe.Target{CgroupID: t.group.ID, Port: parsed.Port()}, root); err != nil {
		return nil, environmentError("", "%w", err)
	}
	return &staging{t, t.stages}, nil
}

func (s *staging) traceMax() int {
	if s == nil {
		return 0
	}
	return tracedMax
}

// stop ends logging and puts the breakdown into the trial. A load that failed
// has none.
func (s *staging) stop(load *loadgen.Result) error {
	if s == nil {
		return nil
	}
	log, err := s.probe.Stop()
	if err != nil {
		return fmt.Errorf("break the latency down: %w", err)
	}
	if load == nil {
		return nil
	}
	if load.TraceMissed > 0 && len(load.Traced) == 0 {
		return errors.New("break the latency down: no request was traced")
	}
	s.t.trial.Stages = breakdown.Of(load, log)
	return nil
}
