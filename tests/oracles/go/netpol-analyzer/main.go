// Answers what netpol-analyzer makes of connections between pods under Kubernetes NetworkPolicies.
//
// One JSON object a line on stdin, one on stdout; see tests/oracles/lines.py for both forms.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/np-guard/netpol-analyzer/pkg/netpol/connlist"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
)

type port struct {
	Name     string        `json:"name"`
	Number   int64         `json:"number"`
	Protocol core.Protocol `json:"protocol"`
}

type pod struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Labels    map[string]any `json:"labels"`
	Ports     []port         `json:"ports"`
}

// end is one end of connections: an address, and the index of the pod that has it, or -1.
type end struct {
	Pod     int    `json:"pod"`
	Address string `json:"address"`
}

type question struct {
	Namespaces map[string]map[string]any `json:"namespaces"`
	Pods       []pod                     `json:"pods"`
	Ends       []end                     `json:"ends"`
	Policies   []json.RawMessage         `json:"policies"`
	Pairs      [][2]int                  `json:"pairs"`
	Asked      []port                    `json:"asked"`
}

type answer struct {
	Verdicts string   `json:"verdicts"`
	Error    string   `json:"error,omitempty"`
	Notes    []string `json:"notes,omitempty"`
}

// notes keeps what netpol-analyzer would print.
type notes struct{ lines []string }

func (kept *notes) Debugf(string, ...any) {}
func (kept *notes) Infof(format string, values ...any) {
	kept.lines = append(kept.lines, "info: "+fmt.Sprintf(format, values...))
}
func (kept *notes) Warnf(format string, values ...any) {
	kept.lines = append(kept.lines, "warning: "+fmt.Sprintf(format, values...))
}
func (kept *notes) Errorf(err error, format string, values ...any) {
	kept.lines = append(kept.lines, fmt.Sprintf("error: %s: %v", fmt.Sprintf(format, values...), err))
}

func main() {
	lines := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	out := json.NewEncoder(os.Stdout)
	for lines.More() {
		var asked question
		if err := lines.Decode(&asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(judge(&asked)); err != nil {
			os.Exit(1)
		}
	}
}

func judge(asked *question) answer {
	kept := &notes{}
	analyzer := connlist.NewConnlistAnalyzer(connlist.WithLogger(kept), connlist.WithStopOnError())
	given, err := objects(asked)
	if err != nil {
		return answer{Error: err.Error()}
	}
	connections, workloads, err := analyzer.ConnlistFromResourceInfos(given)
	if err != nil {
		return answer{Error: err.Error(), Notes: kept.lines}
	}
	for _, problem := range analyzer.Errors() {
		if problem.IsFatal() || problem.IsSevere() {
			return answer{Error: problem.Error().Error(), Notes: kept.lines}
		}
	}
	if len(workloads) != len(asked.Pods) {
		return answer{Error: fmt.Sprintf("read %d of %d pods", len(workloads), len(asked.Pods)), Notes: kept.lines}
	}
	found := map[[2]int][]connlist.Peer2PeerConnection{}
	for _, connection := range connections {
		for _, source := range meant(asked, connection.Src()) {
			for _, destination := range meant(asked, connection.Dst()) {
				key := [2]int{source, destination}
				found[key] = append(found[key], connection)
			}
		}
	}
	verdicts := make([]byte, 0, len(asked.Pairs)*len(asked.Asked))
	for _, pair := range asked.Pairs {
		for _, one := range asked.Asked {
			if holds(found[pair], one) {
				verdicts = append(verdicts, '1')
			} else {
				verdicts = append(verdicts, '0')
			}
		}
	}
	return answer{Verdicts: string(verdicts), Notes: kept.lines}
}

// objects are what netpol-analyzer would find in files.
func objects(asked *question) ([]*resource.Info, error) {
	var found []*resource.Info
	add := func(object map[string]any) {
		found = append(found, &resource.Info{Source: "stdin", Object: &unstructured.Unstructured{Object: object}})
	}
	for name, labels := range asked.Namespaces {
		metadata := map[string]any{"name": name, "labels": labels}
		add(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
	}
	for index, one := range asked.Pods {
		ports, addresses := []any{}, []any{}
		for _, known := range one.Ports {
			ports = append(ports, map[string]any{
				"name": known.Name, "containerPort": known.Number, "protocol": string(known.Protocol),
			})
		}
		for _, held := range asked.Ends {
			if held.Pod == index {
				addresses = append(addresses, map[string]any{"ip": held.Address})
			}
		}
		add(map[string]any{
			"apiVersion": "v1",
			"kind":       "Pod",
			"metadata":   map[string]any{"name": one.Name, "namespace": one.Namespace, "labels": one.Labels},
			"spec":       map[string]any{"containers": []any{map[string]any{"name": "c", "ports": ports}}},
			"status":     map[string]any{"podIPs": addresses, "hostIP": "192.168.0.1"},
		})
	}
	for _, policy := range asked.Policies {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(policy); err != nil {
			return nil, err
		}
		add(object.Object)
	}
	return found, nil
}

// meant are the indices of the ends that a peer of netpol-analyzer stands for.
func meant(asked *question, peer connlist.Peer) []int {
	var found []int
	for index, one := range asked.Ends {
		if peer.IsPeerIPType() {
			if one.Pod < 0 && within(peer.IP(), one.Address) {
				found = append(found, index)
			}
		} else if one.Pod >= 0 {
			held := asked.Pods[one.Pod]
			if held.Namespace == peer.Namespace() && held.Name == peer.Name() {
				found = append(found, index)
			}
		}
	}
	return found
}

func within(ranges, text string) bool {
	address := netip.MustParseAddr(text)
	for _, part := range strings.Split(ranges, ",") {
		first, last, both := strings.Cut(strings.TrimSpace(part), "-")
		if !both {
			last = first
		}
		low, high := netip.MustParseAddr(first), netip.MustParseAddr(last)
		if low.BitLen() == address.BitLen() && !address.Less(low) && !high.Less(address) {
			return true
		}
	}
	return false
}

func holds(connections []connlist.Peer2PeerConnection, one port) bool {
	for _, connection := range connections {
		if connection.AllProtocolsAndPorts() {
			return true
		}
		for _, span := range connection.ProtocolsAndPorts()[one.Protocol] {
			// Spans that are blocked are listed, too.
			allowed := span.(interface{ InSet() bool }).InSet()
			if allowed && span.Start() <= one.Number && one.Number <= span.End() {
				return true
			}
		}
	}
	return false
}
