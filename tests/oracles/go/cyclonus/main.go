// Answers what cyclonus makes of connections between pods under Kubernetes NetworkPolicies.
//
// One JSON object a line on stdin, one on stdout; see tests/oracles/lines.py for both forms.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

type port struct {
	Name     string        `json:"name"`
	Number   int           `json:"number"`
	Protocol core.Protocol `json:"protocol"`
}

type pod struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	Ports     []port            `json:"ports"`
}

// end is one end of connections: an address, and the index of the pod that has it, or -1.
type end struct {
	Pod     int    `json:"pod"`
	Address string `json:"address"`
}

type question struct {
	Namespaces map[string]map[string]string `json:"namespaces"`
	Pods       []pod                        `json:"pods"`
	Ends       []end                        `json:"ends"`
	Policies   []*networking.NetworkPolicy  `json:"policies"`
	Pairs      [][2]int                     `json:"pairs"`
	Asked      []port                       `json:"asked"`
}

type answer struct {
	Verdicts string `json:"verdicts"`
	Error    string `json:"error,omitempty"`
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

func judge(asked *question) (found answer) {
	defer func() {
		if problem := recover(); problem != nil {
			found = answer{Error: fmt.Sprint(problem)}
		}
	}()
	policies := matcher.BuildNetworkPolicies(false, asked.Policies)
	peers := make([]*matcher.TrafficPeer, len(asked.Ends))
	for i, one := range asked.Ends {
		peers[i] = &matcher.TrafficPeer{IP: one.Address}
		if one.Pod >= 0 {
			held := asked.Pods[one.Pod]
			peers[i].Internal = &matcher.InternalPeer{
				PodLabels:       held.Labels,
				NamespaceLabels: asked.Namespaces[held.Namespace],
				Namespace:       held.Namespace,
			}
		}
	}
	verdicts := make([]byte, 0, len(asked.Pairs)*len(asked.Asked))
	for _, pair := range asked.Pairs {
		for _, one := range asked.Asked {
			names := names(asked, asked.Ends[pair[1]].Pod, one)
			traffic := matcher.Traffic{
				Source:       peers[pair[0]],
				Destination:  peers[pair[1]],
				ResolvedPort: one.Number,
				Protocol:     one.Protocol,
			}
			if half(policies, traffic, names, false) && half(policies, traffic, names, true) {
				verdicts = append(verdicts, '1')
			} else {
				verdicts = append(verdicts, '0')
			}
		}
	}
	return answer{Verdicts: string(verdicts)}
}

// names are those that the destination gives to the port; one empty name where it gives none.
func names(asked *question, destination int, one port) []string {
	var found []string
	if destination >= 0 {
		for _, known := range asked.Pods[destination].Ports {
			if known.Number == one.Number && known.Protocol == one.Protocol {
				found = append(found, known.Name)
			}
		}
	}
	if found == nil {
		return []string{""}
	}
	return found
}

// half asks about one direction under each name, for cyclonus' traffic carries only one. Rules only allow, so what is allowed
// under one of the names is allowed.
func half(policies *matcher.Policy, traffic matcher.Traffic, names []string, ingress bool) bool {
	for _, name := range names {
		traffic.ResolvedPortName = name
		if policies.IsIngressOrEgressAllowed(&traffic, ingress).IsAllowed() {
			return true
		}
	}
	return false
}
