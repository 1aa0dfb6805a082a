//! The table of figures.

/// Measures with a figure for each backend, in the order in which they came.
#[derive(Default)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub(crate) fn column(&mut self, name: &str) {
        self.columns.push(name.to_owned());
    }

    /// A figure of the last column.
    pub(crate) fn set(&mut self, measure: &str, figure: String) {
        eprintln!("  {measure}: {figure}");
        let place = self.columns.len() - 1;
        let row = match self.rows.iter_mut().position(|(name, _)| name == measure) {
            Some(row) => row,
            None => {
                self.rows.push((measure.to_owned(), Vec::new()));
                self.rows.len() - 1
            }
        };
        self.rows[row].1.resize(place, "–".to_owned());
        self.rows[row].1.push(figure);
    }

    pub(crate) fn print(&self) {
        println!("| | {} |", self.columns.join(" | "));
        println!("|---|{}", "---|".repeat(self.columns.len()));
        for (measure, figures) in &self.rows {
            let mut figures = figures.clone();
            figures.resize(self.columns.len(), "–".to_owned());
            println!("| {measure} | {} |", figures.join(" | "));
        }
    }
}
