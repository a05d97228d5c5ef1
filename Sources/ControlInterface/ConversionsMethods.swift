extension HolderInterface {
    public enum Conversions {
        public static let method = InterfaceName.holder + ".Conversions"
        /// How many conversions are told one by one at most, and where nothing is said.
        public static let lasts: ClosedRange<Int64> = 0...1000
        public static let standardLast: Int64 = 20

        public struct Parameters: Codable, Hashable, Sendable {
            public var last: Int64?
            public init(last: Int64? = nil) { self.last = last }
        }

        public struct Reply: Codable, Hashable, Sendable {
            /// To private, to shared.
            public var directions: [ConversionDirection]
            /// The hottest first.
            public var hottest: [ConversionHotBlock]
            public var storm: ConversionStorm
            /// Oldest first.
            public var conversions: [ConversionAccount]

            public init(
                directions: [ConversionDirection], hottest: [ConversionHotBlock], storm: ConversionStorm,
                conversions: [ConversionAccount]
            ) {
                self.directions = directions
                self.hottest = hottest
                self.storm = storm
                self.conversions = conversions
            }
        }

        /// - Throws: `ControlError.invalidField`.
        public static func checkedLast(_ last: Int64?) throws(ControlError) -> Int {
            let last = last ?? standardLast
            guard lasts.contains(last) else {
                throw .invalidField(
                    field: "last", value: String(last), limit: "\(lasts.lowerBound) to \(lasts.upperBound)")
            }
            return Int(last)
        }
    }
}

extension ManagerInterface {
    public enum Conversions {
        public static let method = InterfaceName.manager + ".Conversions"

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            /// 0 to 1,000; nil for 20.
            public var last: Int64?

            public init(name: String, last: Int64? = nil) {
                self.name = name
                self.last = last
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            /// To private, to shared.
            public var directions: [ConversionDirection]
            /// The hottest first.
            public var hottest: [ConversionHotBlock]
            public var storm: ConversionStorm
            /// Oldest first.
            public var conversions: [ConversionAccount]

            public init(name: String, backend: Backend, _ found: HolderInterface.Conversions.Reply) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                directions = found.directions
                hottest = found.hottest
                storm = found.storm
                conversions = found.conversions
            }
        }
    }
}
