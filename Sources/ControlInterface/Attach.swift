extension ManagerInterface {
    public enum Attach {
        public static let method = InterfaceName.manager + ".Attach"

        /// Connections that one call may bring.
        public static let connections = 1...8

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            public var memoryBytes: Int64
            public var vcpus: Int64
            /// Of a TD that the caller has attached before; nil for a new one.
            public var id: String?

            public init(name: String, memoryBytes: Int64, vcpus: Int64, id: String? = nil) {
                self.name = name
                self.memoryBytes = memoryBytes
                self.vcpus = vcpus
                self.id = id
            }

            enum CodingKeys: String, CodingKey {
                case name
                case memoryBytes = "memory_bytes"
                case vcpus, id
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var id: String
            /// Reserved for the TD; on hardware the kernel has its own.
            public var keyID: UInt16
            public var state: TrustDomainState

            public init(id: String, keyID: UInt16, state: TrustDomainState) {
                self.id = id
                self.keyID = keyID
                self.state = state
            }

            enum CodingKeys: String, CodingKey {
                case id
                case keyID = "key_id"
                case state
            }
        }
    }
}
