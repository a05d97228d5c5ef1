/// What tdxd and a holder both look for in the holder's directory.
public enum HolderPlaces {
    /// The record of the holder's last will; absent where there is none.
    public static func lastWill(in directory: String) -> String { directory + "/last-will" }
}
