//! Directed graphs of pods, by index. Uses no recursion, so a long chain cannot exhaust the
//! stack.

use std::collections::VecDeque;

/// `successors[pod]`: where the pod sends to.
pub type Successors = Vec<Vec<usize>>;

/// Every pod after all pods that it sends to. Pods on a cycle, and pods that lead into one, are left out.
pub fn farthest_first(successors: &Successors) -> Vec<usize> {
    let mut predecessors = vec![Vec::new(); successors.len()];
    for (from, to) in edges(successors) {
        predecessors[to].push(from);
    }
    let mut open: Vec<usize> = successors.iter().map(Vec::len).collect();
    let mut next: VecDeque<usize> = (0..open.len()).filter(|pod| open[*pod] == 0).collect();
    let mut order = Vec::new();
    while let Some(pod) = next.pop_front() {
        order.push(pod);
        for upstream in &predecessors[pod] {
            open[*upstream] -= 1;
            if open[*upstream] == 0 {
                next.push_back(*upstream);
            }
        }
    }
    order
}

/// For each pod: 0 if it sends to no pod, else one more than the largest among those that it sends
/// to; `None` for pods
/// that [`farthest_first`] leaves out.
pub fn stages(successors: &Successors) -> Vec<Option<usize>> {
    let mut stages = vec![None; successors.len()];
    for pod in farthest_first(successors) {
        let farthest = successors[pod].iter().filter_map(|to| stages[*to]).max();
        stages[pod] = Some(farthest.map_or(0, |stage: usize| stage + 1));
    }
    stages
}

/// For each pod: on how many routes a message leaves it, counted at their ends; 1 for an end itself.
pub fn routes(successors: &Successors) -> Vec<usize> {
    let mut routes = vec![0_usize; successors.len()];
    for pod in farthest_first(successors) {
        routes[pod] = successors[pod]
            .iter()
            .fold(0_usize, |sum, to| sum.saturating_add(routes[*to]))
            .max(usize::from(successors[pod].is_empty()));
    }
    routes
}

/// Pods that one of `start` is or leads to.
pub fn reachable(successors: &Successors, start: impl IntoIterator<Item = usize>) -> Vec<bool> {
    let mut seen = vec![false; successors.len()];
    let mut next: Vec<usize> = start.into_iter().collect();
    while let Some(pod) = next.pop() {
        if !std::mem::replace(&mut seen[pod], true) {
            next.extend(&successors[pod]);
        }
    }
    seen
}

/// At most `most` cycles that share no pod, each beginning with its smallest index; at least one of every knot.
pub fn cycles(successors: &Successors, most: usize) -> Vec<Vec<usize>> {
    let mut successors = successors.clone();
    let mut cycles = Vec::new();
    while cycles.len() < most {
        let mut knotted = vec![true; successors.len()];
        for pod in farthest_first(&successors) {
            knotted[pod] = false;
        }
        let Some(start) = knotted.iter().position(|knotted| *knotted) else {
            break;
        };
        // Whoever is left over has a successor that is left over too, so this walk comes back to itself.
        let mut walk = vec![start];
        let mut position = vec![None; successors.len()];
        position[start] = Some(0);
        while let Some(next) = walk
            .last()
            .and_then(|pod| successors[*pod].iter().copied().find(|to| knotted[*to]))
        {
            if let Some(begin) = position[next] {
                walk.drain(..begin);
                break;
            }
            position[next] = Some(walk.len());
            walk.push(next);
        }
        let smallest = (0..walk.len()).min_by_key(|at| walk[*at]).unwrap_or(0);
        walk.rotate_left(smallest);
        for targets in &mut successors {
            targets.retain(|to| !walk.contains(to));
        }
        for pod in &walk {
            successors[*pod].clear();
        }
        cycles.push(walk);
    }
    cycles
}

fn edges(successors: &Successors) -> impl Iterator<Item = (usize, usize)> + '_ {
    successors
        .iter()
        .enumerate()
        .flat_map(|(from, targets)| targets.iter().map(move |to| (from, *to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_count_from_far_end_by_longest_route() {
        // 0 → 1 → 2 → 3, 0 → 3, 4 → 2
        let graph = vec![vec![1, 3], vec![2], vec![3], vec![], vec![2]];
        assert_eq!(
            stages(&graph),
            [Some(3), Some(2), Some(1), Some(0), Some(2)]
        );
        assert_eq!(routes(&graph), [2, 1, 1, 1, 1]);
        assert_eq!(reachable(&graph, [4]), [false, false, true, true, true]);
        assert!(cycles(&graph, 9).is_empty());
    }

    #[test]
    fn cycle_excludes_pods_that_lead_to_it() {
        // 0 → 1 ⇄ 2, 3 → 4 → 5 → 3, 5 → 6
        let graph = vec![
            vec![1],
            vec![2],
            vec![1],
            vec![4],
            vec![5],
            vec![3, 6],
            vec![],
        ];
        assert_eq!(cycles(&graph, 9), [vec![1, 2], vec![3, 4, 5]]);
        assert_eq!(cycles(&graph, 1), [vec![1, 2]]);
        assert_eq!(
            stages(&graph),
            [None, None, None, None, None, None, Some(0)]
        );
    }

    #[test]
    fn large_graphs_are_walked() {
        let chain: Successors = (0..100_000)
            .map(|pod| if pod < 99_999 { vec![pod + 1] } else { vec![] })
            .collect();
        assert_eq!(stages(&chain)[0], Some(99_999));
        let ladder: Successors = (0..200)
            .map(|pod| match pod {
                198.. => vec![],
                pod => {
                    let next = pod - pod % 2 + 2;
                    vec![next, next + 1]
                }
            })
            .collect();
        assert_eq!(routes(&ladder)[0], usize::MAX);
    }
}
