//! Bars: what each of many came to, with what lies around its median.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    pub name: String,
    pub least: f64,
    pub median: f64,
    pub most: f64,
    pub colour: RGBColor,
}

/// What stands out.
pub const OURS: RGBColor = RGBColor(0, 114, 178);
/// What is partly ours.
pub const PARTLY_OURS: RGBColor = RGBColor(86, 180, 233);

const WIDTH: u32 = 900;
const HEIGHT: u32 = 18;
const AROUND: u32 = 90;
/// For the names.
const MARGIN: u32 = 290;

/// Draws them into an SVG file, the first at the top.
///
/// # Errors
/// When it cannot be written.
pub fn draw(title: &str, unit: &str, bars: &[Bar], path: &Path) -> Result<(), Box<dyn Error>> {
    let count = i32::try_from(bars.len())?;
    let most = bars.iter().map(|bar| bar.most).fold(0.0, f64::max) * 1.02;
    let root = SVGBackend::new(path, (WIDTH, AROUND + HEIGHT * u32::try_from(count)?)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(8)
        .margin_right(24)
        .x_label_area_size(40)
        .y_label_area_size(MARGIN)
        .build_cartesian_2d(0.0..most, (0..count).into_segmented())?;
    let name = |place: &SegmentValue<i32>| match place {
        SegmentValue::CenterOf(index) => {
            let bar = usize::try_from(count - 1 - index).ok().and_then(|index| bars.get(index));
            bar.map_or_else(String::new, |bar| bar.name.clone())
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_desc(unit)
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .label_style(("sans-serif", 12))
        .draw()?;
    for (bar, place) in bars.iter().zip((0..count).rev()) {
        let (low, high) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
        let mut body = Rectangle::new([(0.0, low), (bar.median, high)], bar.colour.filled());
        body.set_margin(2, 2, 0, 0);
        let middle = SegmentValue::CenterOf(place);
        let spread = PathElement::new([(bar.least, middle.clone()), (bar.most, middle)], BLACK.stroke_width(1));
        chart.draw_series([body])?;
        chart.draw_series([spread])?;
    }
    Ok(root.present()?)
}
