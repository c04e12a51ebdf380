package cli

import (
	"io"
	"time"

	"github.com/nexuscore-labs/nexus/scenarios"
)

// watchView shows the run of this process as nexus watch shows another's: it
// reads the same file, so there is one way to see a run. The keyboard is left
// alone, so that Ctrl-C interrupts the run as ever.
type watchView struct {
	screen *screen
	folder chan string
	stop   chan struct{}
	done   chan struct{}
}

func newWatchView(out io.Writer) (progressView, error) {
	screen, err := openScreen(out, nil)
	if err != nil {
		return nil, err
	}
	v := &watchView{screen: screen, folder: make(chan string, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go v.follow()
	return v, nil
}

func (v *watchView) event(e scenarios.Event) {
	if e.Kind == scenarios.EventPlan {
		v.folder <- e.Folder
	}
}

func (v *watchView) follow() {
	defer close(v.done)
	var reader *scenarios.ProgressReader
	select {
	case folder := <-v.folder:
		var err error
		if reader, err = scenarios.OpenProgress(folder); err != nil {
			return
		}
		defer reader.Close()
	case <-v.stop:
		return
	}
	state := &watchState{}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for ending := false; ; {
		news, err := reader.Next()
		if err != nil {
			return
		}
		for _, p := range news {
			state.apply(p)
		}
		if v.screen.show(state, news, ending) != nil || ending {
			return
		}
		select {
		case <-v.stop:
			ending = true // and look once more: the end is in the file by now
		case <-ticker.C:
		}
	}
}

func (v *watchView) close() {
	close(v.stop)
	<-v.done
	v.screen.lines = nil // the summary follows
	v.screen.close()
}
