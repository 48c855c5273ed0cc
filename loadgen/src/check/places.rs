//! Where things stand in flat arrays: layers, their rooms, and the publishers among them that stamp what they send.
use crate::scenario::{Kind, Scenario};

/// All layers of a scenario. Its room numbers are those of [`Scenario::room_number`].
pub struct Places {
    pub layers: Vec<LayerPlaces>,
    /// Connections in all.
    pub connections: u32,
}

/// One layer.
pub struct LayerPlaces {
    pub name: String,
    /// Number of its first room.
    pub first_room: u32,
    pub rooms: u32,
    /// Members of a full room.
    pub members: u32,
    /// Those whose messages carry a stamp, in the order of `Stamp::publisher`.
    pub publishers: Vec<StampedPublisher>,
    /// One of them at least is durable.
    pub has_durable: bool,
    /// By `Stamp::publisher`: index in `publishers`; `u32::MAX`: this one stamps nothing. Empty if nobody does.
    indices: Vec<u32>,
    /// Slots of the layers before this one, at one for each (room, stamped publisher).
    first_slot: usize,
}

/// A publisher of live or durable messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampedPublisher {
    /// `Stamp::publisher`.
    pub publisher: u32,
    /// Its place among the members of its room.
    pub member: u32,
    pub is_durable: bool,
    /// Its own messages come back to it.
    pub hears_itself: bool,
}

/// A publisher of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub layer: usize,
    /// Index of the room in its layer.
    pub room: u32,
    /// Index in [`LayerPlaces::publishers`].
    pub index: usize,
}

impl Places {
    pub fn new(scenario: &Scenario) -> Places {
        let mut first_slot = 0;
        let layers = (0..scenario.layers.len()).map(|layer| {
            let places = LayerPlaces::new(scenario, layer, first_slot);
            first_slot += places.publishers.len() * places.rooms as usize;
            places
        });
        Places { layers: layers.collect(), connections: scenario.connections }
    }

    /// Layer of a room and its index there.
    pub fn room(&self, room: u32) -> Option<(usize, u32)> {
        let mut layers = self.layers.iter().enumerate();
        layers.find_map(|(layer, at)| {
            let index = room.wrapping_sub(at.first_room);
            (index < at.rooms).then_some((layer, index))
        })
    }

    /// A publisher by room number and `Stamp::publisher`; `None` if there is none, or it stamps nothing.
    pub fn publisher(&self, room: u32, publisher: u32) -> Option<Place> {
        let (layer, room) = self.room(room)?;
        let index = self.layers[layer].index(publisher)?;
        let place = Place { layer, room, index };
        (self.connection(place) < u64::from(self.connections)).then_some(place)
    }

    /// The connection that publishes.
    pub fn connection(&self, place: Place) -> u64 {
        let layer = &self.layers[place.layer];
        u64::from(place.room) * u64::from(layer.members) + u64::from(layer.publishers[place.index].member)
    }

    /// Slot of a publisher in an array over all publishers of all rooms.
    pub fn slot(&self, place: Place) -> usize {
        let layer = &self.layers[place.layer];
        layer.first_slot + place.room as usize * layer.publishers.len() + place.index
    }

    /// Length of such an array.
    pub fn slots(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.first_slot + layer.rooms as usize * layer.publishers.len())
    }

    /// A room as reports call it.
    pub fn room_name(&self, room: u32) -> String {
        match self.room(room) {
            Some((layer, index)) => format!("{}-{index}", self.layers[layer].name),
            None => format!("{room} (unknown)"),
        }
    }
}

impl LayerPlaces {
    fn new(scenario: &Scenario, layer: usize, first_slot: usize) -> LayerPlaces {
        let all = scenario.publishers(layer);
        let mut indices = vec![u32::MAX; all.len()];
        let mut publishers = Vec::new();
        for (publisher, at) in all.iter().enumerate() {
            let line = &scenario.traffic[at.traffic];
            let is_durable = line.kind == Kind::Durable;
            if is_durable || line.kind == Kind::Live {
                indices[publisher] = publishers.len() as u32;
                publishers.push(StampedPublisher {
                    publisher: publisher as u32,
                    member: at.member,
                    is_durable,
                    hears_itself: is_durable || line.include_self,
                });
            }
        }
        if publishers.is_empty() {
            indices = Vec::new();
        }
        LayerPlaces {
            name: scenario.layers[layer].name.clone(),
            first_room: scenario.room_number(layer, 0),
            rooms: scenario.rooms(layer),
            members: scenario.members(layer).max(1),
            has_durable: publishers.iter().any(|publisher| publisher.is_durable),
            publishers,
            indices,
            first_slot,
        }
    }

    /// Index in `publishers` of a `Stamp::publisher`.
    pub fn index(&self, publisher: u32) -> Option<usize> {
        let index = *self.indices.get(publisher as usize)?;
        (index != u32::MAX).then_some(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_stamp_have_a_place() {
        let scenario: Scenario = toml::from_str(
            "name = 'x'\nabout = 'y'\nconnections = 25\ntime = { warmup_s = 0, measure_s = 1 }\n\
             [[layer]]\nname = 'quiet'\nmembers = 5\n[[layer]]\nname = 'match'\nmembers = 10\n\
             [[traffic]]\nkind = 'typing'\nlayer = 'match'\nsenders = 2\nrate_per_s = 1\n\
             [[traffic]]\nkind = 'live'\nlayer = 'match'\nsenders = 2\nrate_per_s = 1\n\
             [[traffic]]\nkind = 'durable'\nlayer = 'match'\nsenders = 1\nrate_per_s = 1\n",
        )
        .expect("a scenario");
        let places = Places::new(&scenario);
        assert_eq!(places.slots(), 3 * 3);
        assert!(places.layers[0].publishers.is_empty());
        // Publishers 0 and 1 only type; rooms 0 to 4 are the quiet layer's; room 7 is of members 20 to 24 alone.
        assert_eq!((places.publisher(5, 0), places.publisher(5, 1), places.publisher(5, 5)), (None, None, None));
        assert_eq!((places.publisher(0, 2), places.publisher(8, 2)), (None, None));
        let place = places.publisher(6, 3).expect("the second live publisher of the second match");
        assert_eq!(place, Place { layer: 1, room: 1, index: 1 });
        assert_eq!((places.connection(place), places.slot(place)), (15, 4));
        assert_eq!(places.publisher(7, 2).map(|place| places.connection(place)), Some(20));
        assert_eq!(places.publisher(7, 3), None, "would be connection 25");
        assert_eq!((places.room_name(6), places.room_name(8)), ("match-1".into(), "8 (unknown)".into()));
    }
}
