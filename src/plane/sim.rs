pub struct ClientId; pub struct Faults; pub struct SimNet; pub struct SimOptions; pub struct SimPlane; pub struct SimSocket;
