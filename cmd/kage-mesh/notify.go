package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
)

// checkLimit is how long a node may take to answer itself. The watchdog asks
// three times in its period (systemd.service(5) advises half or less), so one
// slow answer on a machine that swaps costs nothing.
const checkLimit = 5 * time.Second

// notify tells the service manager how the node is: ready once its own client
// port answers, alive as long as it does, stopping at the end. Without one
// (sd_notify(3): NOTIFY_SOCKET is not set) it does nothing.
func notify(ctx context.Context, n *node.Node, log *slog.Logger) error {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("cannot serve the watchdog", "err", err)
	}
	say := func(state string) bool {
		sent, err := daemon.SdNotify(false, state)
		if err != nil {
			log.Warn("cannot notify the service manager", "err", err)
		}
		return sent
	}
	if !say("STATUS=starting") {
		return nil
	}
	defer say(daemon.SdNotifyStopping + "\nSTATUS=finishing what runs")
	every := 5 * time.Second
	if period > 0 {
		every = period / 3
	}
	ready := false
	for {
		wait := every
		if err := answersItself(ctx, n.Endpoint()); err == nil {
			state := daemon.SdNotifyWatchdog + "\nSTATUS=" + standing(n.Mesh().View())
			if !ready {
				if err := keepPort(n); err != nil {
					log.Warn("the service manager cannot keep the client port open over a restart", "err", err)
				}
				state, ready = daemon.SdNotifyReady+"\n"+state, true
			}
			say(state)
		} else if ctx.Err() == nil && ready {
			log.Error("the node does not answer itself", "err", err)
		}
		if !ready {
			wait = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// answersItself asks the node who it is, as any client would.
func answersItself(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/mesh/v1/id", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// standing is a View in a line, for `systemctl status`.
func standing(v *mesh.View) string {
	up, all, running := 0, 0, 0
	for _, m := range v.Members() {
		switch m.Status {
		case mesh.Alive:
			up++
			all++
			if m.Load != nil {
				running += m.Load.Running
			}
		case mesh.Failed:
			all++
		}
	}
	return fmt.Sprintf("%d of %s up, %s running", up, plural(all, "node"), plural(running, "request"))
}
