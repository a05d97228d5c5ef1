/// What tdxd and a holder both look for in the holder's directory.
public enum HolderPlaces {
    /// What the holder would answer to a Stop, written when its end is over or held up; empty before.
    public static func end(in directory: String) -> String { directory + "/end.json" }

    /// The record of the holder's last will; absent where there is none.
    public static func lastWill(in directory: String) -> String { directory + "/last-will" }
}
