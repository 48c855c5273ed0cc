//! How new frames come to all members of a room: in *passes* over the list of members, cut into slices, so that no turn has to
//! look at more of them than `limits::OFFERS_PER_TURN`.
//!
//! The list stands in two parts, whatever joins and leaves meanwhile: members that were looked at in this pass, then those that were
//! not. Frames that come while a pass is half-way reach the latter with it, and the former with the next one.
use std::ops::Range;

/// One room's pass. Means something only while the room is dirty.
#[derive(Debug, Default)]
pub struct Pass {
    /// How many members were looked at, from the first on.
    next: u32,
    /// No member that keeps pace stands before this position of the log.
    floor: u64,
    /// Head of the log when the pass began: when it ends, nobody who keeps pace stands before it.
    target: u64,
}

/// How things stand after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Members are left.
    Halfway,
    /// All were offered what there was at the beginning, and there is more by now: another pass follows.
    Again,
    /// All were offered everything.
    Over,
}

impl Pass {
    /// For a room whose members all stand at `head`, where frames are being appended.
    pub fn from(head: u64) -> Pass {
        Pass { next: 0, floor: head, target: head }
    }

    /// No member that keeps pace stands before this position.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Members that were not looked at yet, of so many.
    pub fn left(&self, members: usize) -> usize {
        members - self.next as usize
    }

    /// Bytes that members who keep pace have still to be offered, all together; what they were spared of it counts, too.
    pub fn unoffered(&self, members: usize, head: u64) -> u64 {
        self.left(members) as u64 * (head - self.floor) + u64::from(self.next) * (head - self.target)
    }

    /// The next members to be looked at, at most so many: places in the list.
    pub fn slice(&mut self, members: usize, most: usize, head: u64) -> Range<usize> {
        if self.next == 0 {
            self.target = head;
        }
        let from = self.next as usize;
        let to = members.min(from.saturating_add(most));
        self.next = to as u32;
        from..to
    }

    /// Those of the slice have been offered everything up to `head`, or are listed as behind.
    pub fn end_slice(&mut self, members: usize, head: u64) -> Progress {
        if self.left(members) > 0 {
            return Progress::Halfway;
        }
        (self.next, self.floor) = (0, self.target);
        if self.target == head { Progress::Over } else { Progress::Again }
    }

    /// The member at this place leaves the list. If it was looked at, the last of those is to move into its place, and the gap is
    /// where that one was.
    pub fn give_up(&mut self, place: u32) -> Option<u32> {
        if place >= self.next {
            return None;
        }
        self.next -= 1;
        Some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Join,
        Leave(usize),
        Append,
        Slice(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => Just(Step::Join),
            2 => (0..8usize).prop_map(Step::Leave),
            1 => Just(Step::Append),
            3 => (1..4usize).prop_map(Step::Slice),
        ]
    }

    proptest! {
        /// Members are their cursors. Whoever stays is offered everything, and nobody stands before the floor.
        #[test]
        fn nobody_is_passed_over(steps in proptest::collection::vec(step(), 1..200)) {
            let (mut members, mut head, mut is_dirty) = (vec![0u64; 5], 0u64, false);
            let mut pass = Pass::default();
            let slice = |members: &mut Vec<u64>, pass: &mut Pass, head: u64, most: usize| {
                for place in pass.slice(members.len(), most, head) {
                    members[place] = head;
                }
                pass.end_slice(members.len(), head)
            };
            for step in steps {
                match step {
                    Step::Join => members.push(head),
                    Step::Leave(place) if place < members.len() => {
                        let mut gap = place;
                        if is_dirty && let Some(last) = pass.give_up(place as u32) {
                            members[gap] = members[last as usize];
                            gap = last as usize;
                        }
                        members.swap_remove(gap);
                    }
                    Step::Append => {
                        if !is_dirty {
                            pass = Pass::from(head);
                        }
                        (head, is_dirty) = (head + 1, true);
                    }
                    Step::Slice(most) if is_dirty => {
                        is_dirty = slice(&mut members, &mut pass, head, most) != Progress::Over;
                    }
                    _ => {}
                }
                match is_dirty {
                    true => prop_assert!(members.iter().all(|cursor| (pass.floor()..=head).contains(cursor))),
                    false => prop_assert!(members.iter().all(|cursor| *cursor == head)),
                }
                let waiting: u64 = members.iter().map(|cursor| head - cursor).sum();
                prop_assert!(waiting == 0 || waiting <= pass.unoffered(members.len(), head));
            }
            let mut slices = 0;
            while is_dirty {
                is_dirty = slice(&mut members, &mut pass, head, 2) != Progress::Over;
                slices += 1;
                prop_assert!(slices <= 2 * members.len().div_ceil(2) + 2, "two passes are enough when nothing is added");
            }
            prop_assert!(members.iter().all(|cursor| *cursor == head));
        }
    }
}
